"""What differs between Datasette 0.65 and 1.0. No other module asks which it is."""

from __future__ import annotations

import json
import sqlite3

from datasette import Forbidden
from datasette.app import Datasette

from .. import catalog_names
from . import catalog_tables

_WRITES_ROWS = ("insert-row", "update-row", "delete-row")
UPLOAD = "image-search-upload"

_HAS_ACTIONS = hasattr(Datasette, "allowed")  # since 1.0
READS_PERMISSIONS = _HAS_ACTIONS  # the configuration's blocks of that name


def configuration(datasette) -> dict:
    """All of it, as it was written: plugins, databases, their tables."""
    return (datasette.config if _HAS_ACTIONS else datasette.metadata()) or {}


# -- what an actor may do -------------------------------------------------------------


async def can_view_instance(datasette, actor) -> bool:
    if _HAS_ACTIONS:
        return await datasette.allowed(action="view-instance", actor=actor)
    return await datasette.permission_allowed(actor, "view-instance", default=True)


async def can_view_database(datasette, actor, database: str) -> bool:
    if _HAS_ACTIONS:
        return await datasette.allowed(
            action="view-database", resource=_database(database), actor=actor
        )
    visible, _ = await datasette.check_visibility(
        actor, permissions=[("view-database", database), "view-instance"]
    )
    return visible


async def can_view_table(datasette, actor, database: str, table: str) -> bool:
    """As the table page decides it, with what falls through from database and instance."""
    if _HAS_ACTIONS:
        return await datasette.allowed(
            action="view-table", resource=_table(database, table), actor=actor
        )
    permissions = [
        ("view-table", (database, table)),
        ("view-database", database),
        "view-instance",
    ]
    try:
        await datasette.ensure_permissions(actor, permissions)
    except Forbidden:
        return False
    except sqlite3.OperationalError:
        # Datasette looks the table up there. Why that fails is for those who see the database.
        if await can_view_database(datasette, actor, database):
            raise
        return False
    return True


async def visible_tables(datasette, actor, database: str) -> set[str] | None:
    """All for which :func:`can_view_table` says yes, from one question; None where there is none.

    One that is a second old may be missing, as in Datasette's own lists.
    """
    if not _HAS_ACTIONS:
        return None
    found = await datasette.allowed_resources("view-table", actor, parent=database, limit=1000)
    # Where permission checks are switched off, it gives those of all databases.
    return {table.child async for table in found.all() if table.parent == database}


async def can_execute_sql(datasette, actor, database: str) -> bool:
    if _HAS_ACTIONS:
        return await datasette.allowed(
            action="execute-sql", resource=_database(database), actor=actor
        )
    return await datasette.permission_allowed(actor, "execute-sql", database, default=True)


async def can_upload(datasette, actor, database: str, table: str) -> bool:
    if _HAS_ACTIONS:
        return await datasette.allowed(action=UPLOAD, resource=_table(database, table), actor=actor)
    return await datasette.permission_allowed(actor, UPLOAD, (database, table), default=True)


def _database(database: str):
    from datasette.resources import DatabaseResource

    return DatabaseResource(database)


def _table(database: str, table: str):
    from datasette.resources import TableResource

    return TableResource(database=database, table=table)


# -- hooks that only 1.0 calls ----------------------------------------------------------


def upload_action():
    """Uploading a picture to search with, as an action that can be granted or denied."""
    from datasette.permissions import Action
    from datasette.resources import TableResource

    return Action(
        name=UPLOAD,
        description="Search a table by an uploaded picture",
        resource_class=TableResource,
        also_requires="view-table",
    )


async def permission_rules(datasette, actor, action: str):
    """Uploading is allowed by default; the catalog's tables are for root alone.

    Not to be written to either: a line of it says which table's pictures are shown where.
    """
    from datasette.permissions import PermissionSQL
    from datasette.resources import TableResource

    if action == UPLOAD and not datasette.default_deny:
        return PermissionSQL.allow(reason="searching by an uploaded picture is allowed by default")
    known = datasette.actions.get(action)
    of_tables = known is not None and known.resource_class is TableResource
    if of_tables and not (datasette.root_enabled and is_root(actor)):
        # Rows that come with a new table, before us, would say which pictures are embedded.
        always = catalog_names.FIXED if action in _WRITES_ROWS else ()
        denied = [
            (name, table)
            for name, db in list(datasette.databases.items())
            for table in {*always, *await catalog_tables.of_database(db)}
        ]
        if denied:
            return PermissionSQL(
                sql="""
                    select value ->> 0 as parent, value ->> 1 as child, 0 as allow,
                        'part of datasette-image-search''s catalog' as reason
                    from json_each(:image_search_catalog)
                """,
                params={"image_search_catalog": json.dumps(denied)},
            )
    return None


def is_root(actor) -> bool:
    return bool(actor) and actor.get("id") == "root"


def is_of_one_request(variable, value) -> bool:
    """Does a context variable of Datasette's hold what is each request's own, and no more?

    1.0's answers to permission checks, and what its traces are written by.
    """
    if not _HAS_ACTIONS:
        return False
    from datasette import permissions

    if type(value).__module__.startswith("opentelemetry."):
        return True
    return variable is getattr(permissions, "_permission_check_cache", None)


# -- pages --------------------------------------------------------------------------------


def query_path(datasette, database: str) -> str:
    """Where the SQL editor of a database is."""
    path = str(datasette.urls.database(database))
    return f"{path}/-/query" if _HAS_ACTIONS else path


async def columns_shown_by_type(datasette, database: str, table: str) -> set[str]:
    """The columns whose cells 1.0 shows as their type says (``url``), without asking plugins."""
    if not _HAS_ACTIONS:
        return set()
    from datasette.column_types import ColumnType

    types = await datasette.get_column_types(database, table)
    own = ColumnType.render_cell
    return {name for name, its in types.items() if type(its).render_cell is not own}


def database_color(db) -> str:
    """The colour (rrggbb) that a database's headings bear; 0.65 has one for all."""
    return getattr(db, "color", "ff0000")
