"""Who may see and do what: exactly what the table page would show, and no more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from datasette import Forbidden, NotFound
from datasette.utils import actor_matches_allow, tilde_decode

from ..catalog_names import is_ours
from . import collections, versions
from .settings import settings
from .together import Together

_together = Together()


async def visible_table(datasette, request):
    """(database, name of the table) of a request's URL.

    What the actor may not see is answered like what is not there. Only where the whole
    instance is closed, whatever the table, the answer is "forbidden": there a login
    plugin wants to be asked.
    """
    table = tilde_decode(request.url_vars["table"])
    try:
        db = datasette.get_database(route=tilde_decode(request.url_vars["database"]))
    except KeyError:
        db = None
    if (
        db is not None
        and await _may_see_now(datasette, request.actor, db.name, table)
        and (
            # As it is spelt there: settings and permissions know a table by that name alone.
            any(r.table_name == table for r in await collections.known_of_table(db, table))
            or await db.table_exists(table)
            or await db.get_view_definition(table)
        )
    ):
        return db, table
    if not await versions.can_view_instance(datasette, request.actor):
        raise Forbidden("You do not have permission to view this table")
    raise NotFound("Table not found")


async def _may_see_now(datasette, actor, database: str, table: str) -> bool:
    """Asked once for the requests that are waiting for it."""

    def find():
        return versions.can_view_table(datasette, actor, database, table)

    try:
        who = json.dumps(actor)
    except (TypeError, ValueError):  # a plugin's actor, which cannot be told from others
        return await find()
    return await _together.ask((datasette, who, database, table), find)


async def can_see(datasette, actor, db, record) -> bool:
    """May the actor know of a collection? As of its table, if that is still there."""
    allowed = await versions.can_view_table(datasette, actor, db.name, record.table_name)
    return allowed and await db.table_exists(record.table_name)


# Nearly always there are no more, or one of so many will do.
_ONE_BY_ONE = 8


async def seen(datasette, actor, db, records: list) -> AsyncIterator:
    """Those of a database's ``records`` that the actor may know of, in their order.

    Hundreds are asked about together where Datasette can be asked so: each question of its own
    goes through the rules on every table there is.
    """
    for record in records[:_ONE_BY_ONE]:
        if await can_see(datasette, actor, db, record):
            yield record
    rest = records[_ONE_BY_ONE:]
    if not rest:
        return
    there = set(await db.table_names())
    visible = await versions.visible_tables(datasette, actor, db.name)
    for record in rest:
        table = record.table_name
        if table not in there:
            continue
        if visible is None:
            if await versions.can_view_table(datasette, actor, db.name, table):
                yield record
        elif table in visible:
            yield record


async def can_upload(datasette, actor, database: str, table: str) -> bool:
    """The action ``image-search-upload`` and the plugin's ``allow_upload`` both say yes."""
    if not actor_matches_allow(actor, settings(datasette, database, table).allow_upload):
        return False
    return await versions.can_upload(datasette, actor, database, table)


def same_origin(request) -> bool:
    """Did a page of ours send this, or no browser at all? As Datasette 1.0 decides it.

    Its cookie goes along with what other sites make a browser send; a token in the
    Authorization header does not.
    """
    headers = request.headers
    bearer = headers.get("authorization", "").lower().startswith("bearer ")
    if bearer and "cookie" not in headers:
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == request.host.lower()


def hides_table(actor, action: str, resource) -> bool | None:
    """0.65: False for the catalog's own tables, which name rows of every other."""
    if action != "view-table" or not isinstance(resource, tuple) or len(resource) != 2:
        return None
    if is_ours(resource[1]) and not versions.is_root(actor):
        return False
    return None
