"""The page that lists the collections: to each visitor those of the tables they may see."""

from __future__ import annotations

import sqlite3

from datasette import Forbidden, Response

from ..errors import ImageSearchError
from . import answers, collections, files, links, methods, page, permissions, search, versions

_REFUSED = "You do not have permission to view this"

# Datasette 1.0 goes through all tables for each of them: seconds, where there are a thousand.
_hidden = files.UntilChanged()


async def overview(request, datasette):
    """Every collection whose table the actor may see, and Datasette lists."""
    wants_json = answers.wants_json(request)
    if request.method == "OPTIONS":
        return methods.asked(datasette, methods.READ)
    if request.method not in ("GET", "HEAD"):
        return answers.not_allowed(datasette, wants_json, methods.READ)
    listed, problems = [], []
    for db in datasette.databases.values():
        try:
            records = await collections.of_database(db)
            listed += await _listed(datasette, request.actor, db, records)
        except (ImageSearchError, sqlite3.Error) as error:
            if await versions.can_view_database(datasette, request.actor, db.name):
                problems.append(_problem(db, error))
    if not listed and not await versions.can_view_instance(datasette, request.actor):
        if wants_json:
            return answers.failure(datasette, _REFUSED, 403)
        raise Forbidden(_REFUSED)
    if wants_json:
        return answers.as_json(datasette, {"ok": True, "collections": listed})
    html = await datasette.render_template(
        "image_search_collections.html",
        {"collections": listed, "problems": problems},
        request=request,
        view_name="image_search_collections",
    )
    return methods.readable(datasette, Response.html(html))


def _problem(db, error: Exception) -> str:
    if isinstance(error, sqlite3.Error):  # it was read a moment ago, and is locked now
        return f"The database {db.name} cannot be read: {error}."
    return page.sentence(error)


async def _listed(datasette, actor, db, records: list) -> list[dict]:
    """Those of one database, by name."""
    hidden = set(await _hidden.get(db, db.hidden_table_names)) if records else set()
    known = [record for record in records if record.table_name not in hidden]
    seen = [record async for record in permissions.seen(datasette, actor, db, known)]
    covers = await search.covers(datasette, db, seen)
    beside = {own.id: mine for mine in collections.of_each_table(records) for own in mine}
    return [
        _card(datasette, db.name, record, beside[record.id], *cover)
        for record, cover in zip(seen, covers)
    ]


def _card(datasette, database: str, record, beside: list, pictures, rows) -> dict:
    """``beside`` are all of the table's collections; the first is meant by the table's name."""
    name = None if record == beside[0] else record.name
    return {
        "database": database,
        "table": record.table_name,
        "collection": record.name,
        "column": record.column_name,
        "model": record.model,
        "metric": record.metric,
        "pictures": pictures,
        "finished": record.finished,
        "url": links.search(
            datasette, database, record.table_name, [("_collection", name)] if name else []
        ),
        "thumbnails": [
            links.thumbnail(datasette, database, record.table_name, row.key, row.picture, name)
            for row in rows
        ],
    }
