"""The table page's filters: carried along in links, put into words, turned into SQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from datasette.filters import Filters
from datasette.plugins import pm
from datasette.utils import await_me_maybe, filters_should_redirect
from datasette.views.base import DatasetteError

from ..errors import UsageError
from .links import Pairs

_OURS = {"_similar", "_upload", "_size", "_collection"}
# What says how a table page looks, not which rows it has. Anything else that begins
# with an underscore may be another plugin's filter, and is carried.
# fmt: off
_LOOKS = {
    "_sort", "_sort_desc", "_sort_by_desc", "_next", "_col", "_nocol", "_labels", "_label",
    "_shape", "_nl", "_json", "_json_infinity", "_extra", "_extras", "_trace", "_timelimit",
    "_ttl", "_nocount", "_nofacet", "_nosuggest", "_stream", "_dl", "_format", "_context", "_row",
}
# fmt: on
_LOOKS_PREFIXES = ("_facet", "_filter_", "_blob_")

# All of them are in most links of a page. SQLite takes no more conditions in one query either.
MOST_PARAMETERS = 1000
# Each that is said has a link without it: of so many a page can have, and not of thousands.
MOST_SAID = 50


@dataclass(frozen=True)
class Conditions:
    """An SQL condition on the table (None: every row) and its named values."""

    where: str | None = None
    parameters: dict = field(default_factory=dict)


def carried(query_string: str) -> Pairs:
    """The parameters that choose rows, in the order they came.

    Raises :class:`UsageError` where there are too many.
    """
    try:
        given = parse_qsl(query_string, keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise UsageError(
            f"there may be {MOST_PARAMETERS:,} parameters in an address at most."
        ) from None
    pairs = _redirected(given)
    return [(key, value) for key, value in pairs if _chooses_rows(key)]


def _redirected(pairs: Pairs) -> Pairs:
    """What the table page's form sends (``_filter_column``, ``_filter_op`` and
    ``_filter_value``) as the filter that the table page itself redirects to."""
    first: dict[str, str] = {}
    for key, value in pairs:
        first.setdefault(key, value)
    instead = filters_should_redirect(first)
    form = {key for key, value in instead if value is None}
    added = [(key, value) for key, value in instead if value is not None]
    return [pair for pair in pairs if pair[0] not in form] + added


def _chooses_rows(key: str) -> bool:
    if _names_column(key):
        return True
    return key not in _OURS | _LOOKS and not key.startswith(_LOOKS_PREFIXES)


def _names_column(key: str) -> bool:
    # Datasette's rule: a column that begins with an underscore is asked as _col__exact.
    return not key.startswith("_") or "__" in key


async def conditions(datasette, request, database: str, table: str) -> Conditions:
    """What the table page would put after ``where``, from its own code and all plugins.

    Refused parameters (``_where`` without execute-sql) raise what they raise there.
    """
    carried_here = carried(request.query_string)
    pairs = sorted((key, value) for key, value in carried_here if _names_column(key))
    hooks = pm.hook.filters_from_request(
        request=request, table=table, database=database, datasette=datasette
    )
    try:
        clauses, parameters = Filters(pairs).build_where_clauses(table)
        for hook in hooks:
            found = await await_me_maybe(hook)
            if found:
                clauses.extend(found.where_clauses)
                parameters.update(found.params)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        # What __in= and _through= hold is JSON, and is read without a check.
        raise UsageError(f"a filter cannot be understood: {error}.") from error
    except DatasetteError as error:
        if error.status != 500:
            raise
        raise UsageError(f"a filter cannot be understood: {error.message.rstrip('.')}.") from error
    # Joined without parentheses, as there: the rows must be the ones of the table page.
    return Conditions(" and ".join(clauses) or None, parameters)


def in_words(pairs: Pairs, applied: Conditions | None) -> list[tuple[str, Pairs]]:
    """(what a filter says, the parameters that are left without it) for each that is
    ``applied``; for all where that is not known, as after a mistake in one of them."""
    searched = applied is None or any(name.startswith("search") for name in applied.parameters)
    said: list[tuple[str, Pairs]] = []
    for place, (key, value) in enumerate(pairs):
        # A table may have no index of its words.
        is_search = key in ("_search", "_searchmode") or key.startswith("_search_")
        words = _words(key, value) if searched or not is_search else ""
        if words and len(said) == MOST_SAID:
            return [*said, ("and more", pairs[:place])]
        if words:
            said.append((words, pairs[:place] + pairs[place + 1 :]))
    return said


def _words(key: str, value: str) -> str:
    """Empty for what Datasette takes for no filter."""
    if key == "_where":
        return value
    if key == "_search":
        return f"search matches “{value}”"
    if key.startswith("_search_"):
        return f"{key.removeprefix('_search_')} matches “{value}”"
    if _names_column(key):
        try:
            return Filters([(key, value)]).human_description_en().removeprefix("where ")
        except (ValueError, RecursionError):
            pass
    return f"{key.removeprefix('_')}: {value}"
