"""What the search page shows, made ready for its template and for its JSON."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache

from datasette.utils import remove_infinites

from ..errors import NotFound, SidecarError
from ..wording import free_names
from . import collections, filters, labels, links, permissions, search, sql_query, uploads, versions
from .filters import Conditions
from .place import DEFAULT_SIZE, Place, Question
from .settings import megabytes


@dataclass(frozen=True)
class Found:
    """``label_column`` is what rows are called by, where whole rows were not asked for."""

    answer: search.Answer
    conditions: Conditions
    upload: uploads.Upload | None
    label_column: str | None = None


async def find(place: Place, question: Question, whole_rows: bool = False) -> Found:
    """Put the question to the place's collection, under the table page's filters."""
    datasette, request = place.datasette, place.request
    upload = None
    if question.similar is None and question.token is not None:
        upload = uploads.of(datasette).find(place.database, place.record, question.token)
    conditions = await filters.conditions(datasette, request, place.database, place.table)
    label = None if whole_rows else await place.db.label_column_for_table(place.table)
    answer = await search.ask(
        datasette,
        place.db,
        place.record,
        similar=question.similar,
        upload=upload,
        size=question.size,
        conditions=conditions,
        columns=None if whole_rows else [label] if label else [],
    )
    return Found(answer, conditions, upload, label)


# -- JSON -------------------------------------------------------------------------------


def as_json(place: Place, question: Question, found: Found) -> dict:
    """The matches with their whole rows, as the design promises them."""
    why_none = found.answer.why_none
    if not question.is_asked and not why_none:
        why_none = "nothing was asked: give _similar=ROW, or send a picture."
    return {
        "ok": True,
        "database": place.database,
        "table": place.table,
        "model": place.record.model,
        "metric": place.record.metric,
        "query": question.as_json(),
        "rows": [_json_row(place, row) for row in found.answer.rows if row.match],
        "next": None,
        "next_url": None,
        "truncated": found.answer.truncated and question.is_asked,
        "why_none": sentence(why_none) if why_none else None,
    }


def _json_row(place: Place, row: search.Row) -> dict:
    values, thumbnail = dict(row.values), place.thumbnail(row)
    picture = place.record.column_name
    if isinstance(values.get(picture), bytes):  # as in Datasette's CSV, and as large as it likes
        values[picture] = place.blob(row)
    ours = {
        "_rank": row.match.rank,
        "_score": row.match.score,
        "_distance": row.match.distance,
        "_thumbnail": thumbnail and place.origin + thumbnail,
    }
    return {
        **dict(zip(values, remove_infinites(values.values()))),  # no JSON has them
        **dict(zip(free_names(ours, values), ours.values())),
    }


def sentence(error: Exception | str) -> str:
    """Errors may begin in lower case, for the command line; on a page sentences do not."""
    text = str(error)
    first = text.partition(" ")[0]
    is_word = (first.isalpha() and len(first) > 2) or first == "a"  # no file's name, no "k"
    return text[:1].upper() + text[1:] if is_word else text


# -- HTML -------------------------------------------------------------------------------


async def as_html(
    place: Place, question: Question, found: Found | None, error: Exception | None = None,
    *, in_vain: Question | None = None,
) -> str:  # fmt: skip
    """The page. An ``error`` is said above what was ``found`` before, or what can be done.

    What was asked ``in_vain`` may be known to another collection.
    """
    is_closed = isinstance(error, SidecarError)  # whatever is asked next
    again = question if found else Question()  # should a picture be refused
    context = {
        "database": place.database,
        "database_color": versions.database_color(place.db),
        "table": place.table,
        "table_url": place.table_url,
        "heading": "Find similar pictures",
        "is_asked": question.is_asked,
        "error": error and sentence(error),
        "is_missing": isinstance(error, NotFound),
        "asked": None,
        "cards": [],
        "collections": _collections(place, in_vain or question),
        "filters": _filters(place, question, found and found.conditions),
        "upload": None if is_closed else await _upload_form(place, again),
        "start_url": None,
    }
    if error and place.records and not (found or is_closed):
        context["start_url"] = place.link(pairs=[])
    if found:
        context.update(await _with_matches(place, question, found))
    return await place.datasette.render_template(
        "image_search.html", context, request=place.request, view_name="image_search"
    )


async def _with_matches(place: Place, question: Question, found: Found) -> dict:
    answer = found.answer
    asked = None
    if answer.asked:
        asked = _card(place, answer.asked, found.label_column)
    elif found.upload:
        asked = {"label": "your picture", "thumbnail": _inline(found.upload.thumbnail)}
    more = None
    is_last = question.size >= place.settings.max_k
    if answer.truncated and not is_last:
        size = min(2 * question.size, place.settings.max_k)
        # To the first that is new, not to the top of all that has been looked at.
        more = f"{place.link(*question.own, ('_size', size))}#picture-{len(answer.rows) + 1}"
    may_edit_sql = question.is_asked and await versions.can_execute_sql(
        place.datasette, place.request.actor, place.database
    )
    own_size = ("_size", question.size if question.size != DEFAULT_SIZE else None)
    return {
        **({"heading": f"Similar to {asked['label']}"} if asked else {}),
        "asked": asked,
        "why_none": answer.why_none and sentence(answer.why_none),
        "cards": [_card(place, row, found.label_column) for row in answer.rows],
        "more_url": more,
        "is_cut": answer.truncated and is_last,
        "json_url": place.link(*question.own, own_size, format=".json"),
        "sql_url": await _sql_url(place, question, found) if may_edit_sql else None,
        "record": place.record,
        "pictures": answer.pictures,
    }


def _card(place: Place, row: search.Row, label_column: str | None) -> dict:
    path = links.row_path(row.key)
    return {
        "label": labels.of_row(row.values.get(label_column), row.key),
        "row_url": path and links.row(place.datasette, place.database, place.table, row.key),
        "similar_url": path and place.link(("_similar", path)),
        "thumbnail": place.thumbnail(row),
        "score": None if row.match is None else row.match.score,
        "distance": None if row.match is None else row.match.distance,
    }


def _inline(thumbnail: bytes | None) -> str | None:
    # An upload's thumbnail has no address of its own: it goes when it is forgotten.
    encoded = thumbnail and base64.b64encode(thumbnail).decode("ascii")
    return encoded and f"data:image/jpeg;base64,{encoded}"


async def _sql_url(place: Place, question: Question, found: Found) -> str:
    similar = question.similar
    if similar is not None:
        similar = links.from_row_path(similar, place.record.key_columns)
    return sql_query.url(
        place.datasette,
        place.database,
        place.record,
        similar=similar,
        token=question.token,
        size=question.size,
        conditions=found.conditions,
        # It is filters alone that have the query look so deep.
        embedded=await search.embedded(place.db, place.record) if found.conditions.where else 0,
    )


def _collections(place: Place, question: Question) -> list[dict]:
    """The other ways to look at the same pictures.

    An upload belongs to one of them: it goes along so that the others say so.
    """
    if len(place.records) < 2:
        return []
    return [
        {
            "name": record.name,
            "column": collections.by_column(place.records, record),
            "title": f"{record.model}, {record.metric}, {record.column_name}",
            "is_current": record == place.record,
            "url": replace(place, record=record).link(*question.own),
        }
        for record in place.records
    ]


def _filters(place: Place, question: Question, applied: Conditions | None) -> list[dict]:
    return [
        {"text": text, "remove_url": place.link(*question.own, pairs=left)}
        for text, left in filters.in_words(place.filters, applied)
    ]


async def _upload_form(place: Place, question: Question) -> dict | None:
    """Where a picture may be sent, or None for those who may not.

    The ``question`` goes along: it is asked again where the picture is refused.
    """
    allowed = place.record is not None and await permissions.can_upload(
        place.datasette, place.request.actor, place.database, place.table
    )
    if not allowed:
        return None
    most = place.settings.max_upload_bytes
    return {
        "url": place.link(*question.own),
        "most": most,
        "most_in_words": megabytes(most),
        "unreadable": _unreadable(),
    }


@cache
def _unreadable() -> str:
    """For the script, as JSON: how the names of files end that need not be sent, by what is said
    of them. A camera's raw files are not among them: of many their preview is read."""
    from ..pictures.kinds import BY_ENDING, RAW, cannot_be_read

    endings = defaultdict(list)
    for ending, kind in BY_ENDING.items():
        if kind != RAW:
            endings[cannot_be_read(kind)].append(ending)
    return json.dumps(endings)
