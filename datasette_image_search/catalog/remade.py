"""A catalog whose tables another program has made anew, as 'sqlite-utils transform' does of the one
that it is given. What is in them may be ours still: only who owns the database can know.

And one some of whose tables have been dropped.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from ..catalog_names import FIXED
from ..errors import CatalogError, NotFound, UsageError
from ..wording import command_line
from . import schema
from .collections import collections, key_columns, renew_key
from .connection import transaction
from .tables import Table, database_name, quote

_STEPS = "image_search_migrations"
_KEPT = "temp.image_search_kept"


def make_as_ours(conn: sqlite3.Connection, trusted: bool) -> list[str]:
    """Put tables of our own in the place of such, with what is in them; what was done.

    Raises :class:`CatalogError` with what they say, as whoever may write to the database may
    have planted that, unless it is ``trusted``; and where they are not what ours are.
    """
    if not schema.foreign(conn):
        return []
    foreign = []
    with transaction(conn):
        # The list of collections first: it says what the rows tables are.
        while found := schema.foreign(conn):
            for name in found:
                _refuse_what_is_no_table(conn, name)
                _make_anew(conn, name)
            foreign += found
        lacking = [name for name in FIXED if not schema.has_table(conn, name)]
        if lacking:
            raise CatalogError(
                f"{', '.join(foreign)} in {database_name(conn)} cannot be a catalog, as there is "
                f"no {lacking[0]}: drop what bears such names."
            )
        said = _claims(conn)
        if not trusted:
            raise CatalogError(
                f"{', '.join(foreign)} in {database_name(conn)} "
                f"{'was' if len(foreign) == 1 else 'were'} not made by datasette-image-search, but "
                "by another program, such as 'sqlite-utils transform', or by somebody who may "
                f"write to the database. There it says: {'; '.join(said) or 'nothing'}. If that "
                "is right, run this again with --trust-catalog; else drop the tables of these "
                "names."
            )
    return [f"{name} is our own again, with what was in it." for name in foreign]


def lost_tables(conn: sqlite3.Connection) -> list[str]:
    """Those of our tables that have been dropped, save rows tables.

    That of the steps also where it is empty: without a step there is no catalog.
    """
    has_steps = schema.version(conn) > 0  # what is not ours, or newer, is refused
    there = [name for name in FIXED if schema.has_table(conn, name)]
    sound = there if has_steps else [name for name in there if name != _STEPS]
    return [name for name in FIXED if there and name not in sound]


def make_lost(conn: sqlite3.Connection) -> list[str]:
    """Make what has been dropped of our tables; what was done, and how to fill them."""
    said = []
    if lost := lost_tables(conn):
        with transaction(conn):
            for name in lost:
                conn.execute(f"drop table if exists main.{name}")
                with closing(_made(conn, name)) as ours:
                    for statement in _statements(ours, name):
                        conn.execute(statement)
                filled = "" if name == _STEPS else ": run load and embed again"
                said.append(f"{name} had gone, and is there again{filled}.")
            _note_steps(conn)
    for record in collections(conn):
        name = schema.rows_table(record.id)
        if not schema.has_table(conn, name):
            try:
                table = Table.read(conn, record.table_name)
            except (NotFound, UsageError):  # or it is a view now, or its rows have no key
                table = Table(record.table_name, {}, record.key_columns)
            with transaction(conn):
                renew_key(conn, record, table)
            again = command_line("embed", database_name(conn), record.name)
            said.append(
                f"{name} had gone, and is there again: run {again}, which reads the rows anew and "
                "keeps the vectors."
            )
    return said


def _note_steps(conn: sqlite3.Connection) -> None:
    """Write down which steps the tables have had that are there now: none is gone again."""
    info = conn.execute("pragma main.table_info(image_search_collections)").fetchall()
    steps = schema.STEPS if any(row[1] == "thumbnails" for row in info) else schema.STEPS[:1]
    conn.executemany(
        f"insert or ignore into main.{_STEPS} (step) values (?)",
        [(number,) for number, _ in enumerate(steps, 1)],
    )


def _refuse_what_is_no_table(conn: sqlite3.Connection, name: str) -> None:
    """A view or a virtual table is asked nothing: it may never end."""
    query = "select type, sql from main.sqlite_master where name = ?"
    kind, sql = conn.execute(query, (name,)).fetchone()
    if kind == "view" or not sql.upper().startswith("CREATE TABLE"):
        what = "view" if kind == "view" else "virtual table"
        raise CatalogError(f"{name} in {database_name(conn)} is a {what}, and not ours: drop it.")


def _make_anew(conn: sqlite3.Connection, name: str) -> None:
    """A table of our own in the other's place; in a transaction."""
    there = f"main.{quote(name)}"
    with closing(_made(conn, name)) as ours:
        columns = [row[1] for row in ours.execute(f"pragma table_info({name.lower()})")]
        sql = _statements(ours, name)
    info = conn.execute(f"pragma main.table_xinfo({quote(name)})").fetchall()
    plain = {row[1] for row in info if row[6] == 0}
    lacking = [column for column in columns if column not in plain]
    if lacking:
        raise CatalogError(
            f"{name} in {database_name(conn)} has no column {lacking[0]}, and cannot be ours: "
            "drop it."
        )
    listed = ", ".join(columns)
    conn.execute(f"create table {_KEPT} as select {listed} from {there}")
    conn.execute(f"drop table {there}")
    for statement in sql:
        conn.execute(statement)
    conn.execute(f"insert into main.{name.lower()} ({listed}) select {listed} from {_KEPT}")
    conn.execute(f"drop table {_KEPT}")


def _statements(ours: sqlite3.Connection, name: str) -> list[str]:
    """What makes one of our tables, and then its indexes."""
    query = (
        "select sql from sqlite_master where tbl_name = ? and sql is not null "
        "order by type = 'index'"
    )
    return [sql for (sql,) in ours.execute(query, (name.lower(),)).fetchall()]


def _made(conn: sqlite3.Connection, name: str) -> sqlite3.Connection:
    """A database in memory with the table of this name as we make it."""
    made = sqlite3.connect(":memory:", isolation_level=None)
    if name.lower() in FIXED:
        schema.migrate(made)
        return made
    number = int(name.rpartition("_")[2])
    query = "select name, table_name, key_columns from main.image_search_collections where id = ?"
    collection, table, listed = conn.execute(query, (number,)).fetchone()
    types, keys = schema.key_types(conn, number), key_columns(listed)
    if len(keys) != len(types):
        raise CatalogError(
            f"{name} in {database_name(conn)} has {len(types)} columns as its key, and the "
            f"collection {collection!r} {len(keys)}: drop it."
        )
    schema.create_rows_table(made, number, Table(table, dict(zip(keys, types)), keys))
    return made


def _claims(conn: sqlite3.Connection) -> list[str]:
    """What is believed of a catalog: where files are looked for, and which are read."""
    folders = conn.execute("select table_name, folder from main.image_search_folders").fetchall()
    return [f"table {table!r} is the folder {folder!r}" for table, folder in folders] + [
        f"collection {one.name!r} is of {one.table_name}.{one.column_name} in the folder "
        f"{one.root!r}, with weights {one.weights_name!r}"
        for one in collections(conn)
    ]
