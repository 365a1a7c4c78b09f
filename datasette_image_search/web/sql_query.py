"""The page's matches as one SQL query, for "View and edit SQL"."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from datasette.utils import reserved_words

from ..wording import sql_text
from . import versions
from .filters import Conditions

# What the SQL functions take for k at most: filtered in SQL, the search comes first.
_DEEPEST = 10_000
_PLAIN = re.compile("[a-z_][a-z0-9_]*", re.ASCII | re.IGNORECASE)


def url(
    datasette, database: str, record, *, similar: str | None, token: str | None,
    size: int, conditions: Conditions, embedded: int,
) -> str:  # fmt: skip
    """The SQL editor with the query in it, and its named parameters as fields to change."""
    sql = query(record, "similar" if similar is not None else "upload", size, conditions, embedded)
    asked = {"similar": similar} if similar is not None else {"upload": token}
    pairs = {"sql": sql, **asked, **conditions.parameters}
    return f"{versions.query_path(datasette, database)}?{urlencode(pairs)}"


def query(record, parameter: str, size: int, conditions: Conditions, embedded: int) -> str:
    """``parameter`` names what is asked: ``similar``, a row, or ``upload``, a token.

    The functions know no filters, so that with filters the query looks deep and then
    keeps ``size``. ``embedded`` is how many rows have a picture, and are matches: beyond
    10,000 it says that it does not look at all of them.
    """
    # Imported here: a server that is never asked never pays for numpy.
    from ..collection import figure_names

    function = "similar_images" if parameter == "similar" else "similar_to_upload"
    table = _name(record.table_name)
    on = "\n  and ".join(f"p.{_name(key)} = {_in_match(key)}" for key in record.key_columns)
    _, score, distance = figure_names(record.key_columns)
    rowid = "rowid, " if record.key_columns == ("rowid",) else ""
    depth, rows, note = size, table, ""
    if conditions.where:
        depth = min(max(embedded, size), _DEEPEST)
        rows = f"(\n  select {rowid}*\n  from {table}\n  where {conditions.where}\n)"
        if embedded > _DEEPEST:
            note = f"-- filtered among the {_DEEPEST:,} nearest of {embedded:,} rows\n"
    return (
        f"{note}select {'p.rowid, ' if rowid else ''}p.*, "
        f"m.value ->> '{score}' as {score}, m.value ->> '{distance}' as {distance}\n"
        f"from json_each({function}({sql_text(record.name)}, :{parameter}, {depth})) as m\n"
        f"join {rows} as p\n  on {on}\n"
        f"order by m.key\nlimit {size}"
    )


def _name(name: str) -> str:
    """Bare where it may be, for it is there to be read; else in quotation marks."""
    if _PLAIN.fullmatch(name) and name.lower() not in reserved_words:
        return name
    return '"{}"'.format(name.replace('"', '""'))


def _in_match(key: str) -> str:
    """The key's column in a match: ``->>`` takes a dot or an umlaut for something else."""
    if _PLAIN.fullmatch(key):
        return f"m.value ->> {sql_text(key)}"
    return f"(select value from json_each(m.value) where key = {sql_text(key)})"
