"""The collections of a database and of a table, looked up once in a request."""

from __future__ import annotations

import sqlite3

from ..errors import CatalogError, ImageSearchError, NotFound
from . import visit


async def of_database(db) -> list:
    """Every :class:`CollectionRecord` of a database, by name."""
    known = visit.current().collections
    if db.name not in known:
        known[db.name] = await _read(db)
    return known[db.name]


async def _read(db) -> list:
    # Asked in plain SQL: a database that has no catalog never pays for numpy.
    if not await db.table_exists("image_search_collections"):
        return []

    def read(conn):
        from .. import catalog

        try:
            return catalog.collections(conn)
        except sqlite3.Error as error:
            raise CatalogError(f"the catalog in {db.name} cannot be read: {error}.") from error

    return await db.execute_fn(read)


async def of_table(db, table: str) -> list:
    """The table's collections, the one that is meant when none is named first."""
    mine = [r for r in await of_database(db) if r.is_of(table)]
    return sorted(mine, key=lambda record: not record.is_called(table))


async def known_of_table(db, table: str) -> list:
    """As :func:`of_table` for Datasette's own pages, which go on without us."""
    try:
        return await of_table(db, table)
    except ImageSearchError:
        return []


def choose(records: list, name: str | None, db, table: str):
    """The table's collection called ``name``; raises :class:`NotFound` with what to do."""
    if not records:
        file = db.path.replace("\\", "/").rpartition("/")[2] if db.path else db.name
        raise NotFound(
            f"The pictures of {table!r} are not embedded yet: "
            f"run 'datasette image-search embed {file} {table}'."
        )
    if name is None:
        return records[0]
    for record in records:
        if record.is_called(name):
            return record
    names = ", ".join(record.name for record in records)
    raise NotFound(f"{table!r} has no collection {name!r}; there is {names}.")
