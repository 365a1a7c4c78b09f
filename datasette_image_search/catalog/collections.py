"""The list of collections: what was embedded, and what made its vectors."""

from __future__ import annotations

import json
import shlex
import sqlite3
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from ..errors import CatalogError, NotFound, UsageError
from ..wording import command_line, shortened
from . import schema
from .tables import (
    Table,
    compares_as,
    database_name,
    database_path,
    same_name,
    table_names,
)


@dataclass(frozen=True)
class CollectionRecord:
    """One line of ``image_search_collections``.

    ``weights`` is the SHA-256 of the weights file, ``weights_name`` what the user
    called them. ``root`` is relative to the database's folder where it can be.
    ``finished`` is the time (UTC) at which the last complete embedding ended, or None;
    ``thumbnails`` is whether small pictures are kept, and shown.
    """

    id: int
    name: str
    table_name: str
    column_name: str
    key_columns: tuple[str, ...]
    root: str
    model: str
    weights: str
    weights_name: str
    resize: str
    preprocessing: str
    dimensions: int
    metric: str
    index_kind: str
    sidecar: str
    finished: str | None = None
    thumbnails: bool = True

    def is_called(self, name: str) -> bool:
        return same_name(self.name, name)

    def is_of(self, table: str) -> bool:
        return same_name(self.table_name, table)

    def sidecar_path(self, conn: sqlite3.Connection) -> Path:
        """Beside the database, wherever that is now; and nowhere else, whoever made it.

        Nor is it any file there: a sidecar is read, replaced, set aside and deleted.
        """
        home = database_path(conn)
        plain = "\0" not in self.sidecar and Path(self.sidecar).name == self.sidecar
        if not home or not plain or not self.sidecar.endswith(SIDECAR):
            raise CatalogError(
                f"the catalog in {database_name(conn)} names {self.sidecar!r} as a sidecar, "
                f"which can be no {SIDECAR} file beside it."
            )
        return Path(home).parent / self.sidecar

    def root_path(self, conn: sqlite3.Connection) -> Path:
        return Path(database_path(conn)).parent / self.root

    def table(self, conn: sqlite3.Connection) -> Table:
        """The user's table; raises :class:`CatalogError` where its rows are named otherwise now,
        :class:`NotFound` where it has gone."""
        table = self._table(conn)
        if not self.has_key_of(conn, table):
            before = _described(self.key_columns, schema.key_types(conn, self.id))
            raise CatalogError(
                f"the key of {self.table_name!r} is now {_described(table.keys, table.key_types)}, "
                f"but {before} when it was embedded: run "
                f"{command_line('embed', database_name(conn), self.name)}, which reads the rows "
                "anew and keeps the vectors."
            )
        return table

    def table_with_column(self, conn: sqlite3.Connection) -> Table:
        """As :meth:`table`, whatever its key; :class:`NotFound` where it has no such column."""
        table = self._table(conn)
        try:
            table.column(self.column_name)
        except NotFound:
            raise NotFound(
                f"table {self.table_name!r} has no column {self.column_name!r} any more: "
                "embed another with --column NAME."
            ) from None
        return table

    def _table(self, conn: sqlite3.Connection) -> Table:
        try:
            return Table.read(conn, self.table_name)
        except NotFound:
            # Not which tables there are: visitors who may see this one may not see them.
            raise NotFound(
                f"the table {self.table_name!r} of the collection {self.name!r} is not in "
                f"{database_name(conn)} any more: if it has another name now, embed that with "
                f"--collection {shlex.quote(self.name)}, else remove the collection with "
                f"{command_line('forget', database_name(conn), self.name)}."
            ) from None

    def has_key_of(self, conn: sqlite3.Connection, table: Table) -> bool:
        """Does the collection name a row as the ``table`` does?

        A column of numbers finds by '7' what was put there as '007', and one of text does not.
        """
        now, before = table.key_types, schema.key_types(conn, self.id)
        same_types = not before or [*map(compares_as, now)] == [*map(compares_as, before)]
        return same_types and table.keys == self.key_columns


def _described(keys: tuple[str, ...], types: list[str]) -> str:
    return ", ".join(f"{key} {type or 'without a type'}" for key, type in zip(keys, types))


SIDECAR = ".faiss"
_NAMES = [field.name for field in fields(CollectionRecord)]
# SQLite keeps in a column whatever is put there; those that are not named here are text.
_TYPES = {"id": int, "dimensions": int, "finished": (str, type(None)), "thumbnails": int}


def _record(conn: sqlite3.Connection, values: dict) -> CollectionRecord:
    """A line of the catalog, which anybody may have written, once it is what it should be."""
    for name, value in values.items():
        if not isinstance(value, _TYPES.get(name, str)):
            raise damaged(conn, f"a collection has {name}", value)
    keys = key_columns(values["key_columns"])
    if not keys:
        raise damaged(conn, "a collection has key_columns", values["key_columns"])
    values["key_columns"] = keys
    values["thumbnails"] = bool(values.get("thumbnails", True))
    return CollectionRecord(**values)


def key_columns(text: str) -> tuple[str, ...]:
    """The names in a JSON array; none where it is something else."""
    try:
        keys = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    is_right = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return tuple(keys) if is_right else ()


def damaged(conn: sqlite3.Connection, what_has: str, value, then: str = "") -> CatalogError:
    """Of a ``value`` that no version of ours has written; ``then`` says what helps."""
    return CatalogError(
        f"the catalog in {database_name(conn)} is damaged: {what_has} "
        f"{shortened(repr(value), 40)}{then}."
    )


def collections(conn: sqlite3.Connection) -> list[CollectionRecord]:
    """Every collection of the connection's database, by name."""
    step = schema.version(conn)
    if step == 0:
        return []
    names = [name for name in _NAMES if step > 1 or name != "thumbnails"]
    query = f"select {', '.join(names)} from main.image_search_collections order by name"
    return [_record(conn, dict(zip(names, row))) for row in conn.execute(query).fetchall()]


def find(conn: sqlite3.Connection, name: str) -> CollectionRecord | None:
    """The collection of that name, in any case of letters; or the first one of a table.

    A table's first collection bears its name, so the first rule nearly always decides.
    """
    every = sorted(collections(conn), key=attrgetter("id"))
    for test in (
        lambda c: c.name == name,
        lambda c: c.is_called(name),
        lambda c: c.is_of(name),
    ):
        found = [collection for collection in every if test(collection)]
        if found:
            return found[0]
    return None


def require(
    conn: sqlite3.Connection, name: str, *, of_collection: bool = False
) -> CollectionRecord:
    """As :func:`find`; raises :class:`NotFound` with what to do about it.

    And :class:`UsageError` for a collection that is called as another table by now, unless
    ``name`` is said to be the collection's.
    """
    found = find(conn, name)
    if found is not None:
        if not of_collection and found.is_called(name):
            refuse_name_of_a_table(conn, found.name, found.table_name)
        return found
    table = Table.read(conn, name)  # where there is none, that is the better answer
    raise NotFound(
        f"table {table.name!r} has no collection in {database_name(conn)}: run "
        f"{command_line('embed', database_name(conn), table.name)} first."
    )


def refuse_name_of_a_table(
    conn: sqlite3.Connection, name: str, table: str, *, is_new: bool = False
) -> None:
    """Raise :class:`UsageError` where a collection of ``table`` is called as another table.

    Wherever a table's name is taken to search, a collection's is: it must mean one thing.
    """
    names = table_names(conn)
    if same_name(name, table) or not any(same_name(name, other) for other in names):
        return
    if is_new:
        raise UsageError(f"there is a table {name!r}: choose another name with --collection.")
    raise UsageError(
        f"there is a table {name!r} now, and a collection of {table!r} of the same name: "
        f"embed {table!r} with another --collection, and forget {name!r}."
    )


def insert(conn: sqlite3.Connection, record: CollectionRecord, table: Table) -> CollectionRecord:
    """Add a collection and its rows table; ``record.id`` is chosen here."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    values["key_columns"] = json.dumps(record.key_columns)
    values["id"] = schema.free_id(conn)
    names = ", ".join(values)
    marks = ", ".join("?" for _ in values)
    conn.execute(
        f"insert into image_search_collections ({names}) values ({marks})",
        tuple(values.values()),
    )
    schema.create_rows_table(conn, values["id"], table)
    return require(conn, record.name, of_collection=True)


def update(conn: sqlite3.Connection, collection_id: int, **changes) -> None:
    for name, value in changes.items():
        conn.execute(
            f"update image_search_collections set {name} = ? where id = ?",
            (value, collection_id),
        )


def renew_key(conn: sqlite3.Connection, record: CollectionRecord, table: Table) -> None:
    """Name the rows as the ``table`` does now: none that was known before is known any more."""
    conn.execute(f"drop table if exists {schema.rows_table(record.id)}")
    schema.create_rows_table(conn, record.id, table)
    update(conn, record.id, key_columns=json.dumps(table.keys), finished=None)


def forget_fingerprints(conn: sqlite3.Connection, record: CollectionRecord) -> None:
    """Its files are in another folder now: that they are unchanged can no longer be told."""
    rows = schema.rows_table(record.id)
    conn.execute(f"update {rows} set image_search_fingerprint = null")


def drop(conn: sqlite3.Connection, record: CollectionRecord) -> None:
    """Remove a collection and its rows table; the user's table stays as it is."""
    conn.execute("delete from image_search_collections where id = ?", (record.id,))
    conn.execute(f"drop table if exists {schema.rows_table(record.id)}")
