"""The collections of a database and of a table, looked up once in a request."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from operator import attrgetter

from ..errors import (
    HALF_WRITTEN,
    Busy,
    CatalogError,
    CatalogInterrupted,
    ImageSearchError,
    NotFound,
)
from ..wording import command_line
from . import files, visit

_known = files.UntilChanged()


async def of_database(db) -> list:
    """Every :class:`CollectionRecord` of a database, by name.

    Looked up again when the file has changed, and once in a request.
    """
    known = visit.current().collections
    if db.name not in known:
        known[db.name] = await _of_database(db)
    return known[db.name]


async def _of_database(db) -> list:
    if not db.path:
        return []  # in memory: there is no file that a sidecar could be beside
    return await _known.get(db, lambda: db.execute_fn(_read))


def _read(conn: sqlite3.Connection) -> list:
    name = "image_search_collections"
    # Asked in plain SQL: a database that has no catalog never pays for numpy.
    query = "select 1 from main.sqlite_master where type = 'table' and name = ?"
    try:
        if conn.execute(query, (name,)).fetchone() is None:
            return []
        from .. import catalog

        return catalog.collections(conn)
    except sqlite3.Error as error:
        if "readonly" in str(error):  # who only reads is told so of a killed writer's journal
            raise CatalogInterrupted(HALF_WRITTEN) from error
        raise CatalogError(f"the catalog cannot be read: {error}.") from error


async def of_table(db, table: str) -> list:
    """The table's collections, the one that is meant when none is named first."""
    return _of_table(await of_database(db), table)


def _of_table(records: list, table: str) -> list:
    mine = [record for record in records if record.is_of(table)]
    return sorted(mine, key=lambda record: (not record.is_called(table), record.id))


def of_each_table(records: list) -> Iterator[list]:
    """A database's collections by their tables, each time in the order of :func:`of_table`."""
    alike = defaultdict(list)  # each table's are looked for among few: there may be hundreds
    for record in records:
        alike[record.table_name.lower()].append(record)
    for few in alike.values():
        for table in {record.table_name: None for record in few}:
            yield _of_table(few, table)


def by_column(records: list, record) -> str | None:
    """The column of a ``record``, where others of its table's ``records`` have another one."""
    columns = {other.column_name for other in records}
    return record.column_name if columns != {record.column_name} else None


async def known_of_table(db, table: str) -> list:
    """As :func:`of_table` for Datasette's own pages, which go on without us."""
    try:
        return await of_table(db, table)
    except ImageSearchError:
        return []


# What a collection is, where another may have taken its name.
_IS = attrgetter("id", "table_name", "key_columns", "model", "weights", "resize", "metric")


def is_same(one, other) -> bool:
    return _IS(one) == _IS(other)


def opened(conn: sqlite3.Connection, record):
    """The :class:`Collection` of a ``record``, to whose table the visitor has been let.

    Raises :class:`Busy` where the name is another's by now: that may be of a table which
    the visitor may not see, or know nothing of what was asked.
    """
    from ..collection import Collection

    collection = Collection.kept(conn, record.name, of_collection=True)
    if not is_same(collection.record, record):
        raise Busy(f"the collection {record.name!r} was made anew meanwhile: try again.")
    return collection


async def still_there(db, record) -> None:
    """Raises as :func:`opened` does: a picture takes its time to arrive."""

    def work(conn: sqlite3.Connection) -> None:
        from .. import catalog

        with catalog.plainly(db.name):
            opened(conn, record)

    await db.execute_fn(work)


def file_name(db) -> str:
    """The database as a command is given it; of its folder visitors learn nothing."""
    return db.path.replace("\\", "/").rpartition("/")[2] if db.path else db.name


async def refuse_view(db, table: str) -> None:
    """Raises :class:`NotFound` for a view: no command would embed its pictures."""
    if await db.get_view_definition(table):
        raise NotFound(
            f"{table!r} is a view, and pictures are embedded and searched in tables only: "
            "search the table behind it."
        )


def choose(records: list, name: str | None, db, table: str):
    """The table's collection called ``name``; raises :class:`NotFound` with what to do."""
    if not records:
        raise NotFound(
            f"The pictures of {table!r} are not embedded yet: "
            f"run {command_line('embed', file_name(db), table)}."
        )
    if name is None:
        return records[0]
    for record in records:
        if record.is_called(name):
            return record
    names = ", ".join(record.name for record in records)
    raise NotFound(f"{table!r} has no collection {name!r}, but {names}.")
