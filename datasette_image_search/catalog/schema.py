"""The catalog's tables in the user's database, and the numbered steps that made them.

    image_search_migrations    which steps this database has had
    image_search_folders       the folder that a table was loaded from
    image_search_collections   what was embedded, and what made its vectors
    image_search_pictures      each picture's content hash and thumbnail, once
    image_search_rows_N        collection N: which row has which picture, or why not

A new step is added at the end of :data:`STEPS`; what has been released stays as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from ..catalog_names import FIXED
from ..errors import CatalogError
from .tables import Table, database_name, quote


def _first_tables(conn: sqlite3.Connection) -> None:
    conn.execute(
        """
        create table image_search_folders (
            table_name text primary key,
            folder text not null
        )
        """
    )
    conn.execute(
        """
        create table image_search_collections (
            id integer primary key,
            name text not null unique,
            table_name text not null,
            column_name text not null,
            key_columns text not null,
            root text not null,
            model text not null,
            weights text not null,
            weights_name text not null,
            resize text not null,
            preprocessing text not null,
            dimensions integer not null,
            metric text not null,
            index_kind text not null,
            sidecar text not null,
            finished text
        )
        """
    )
    conn.execute(
        """
        create table image_search_pictures (
            id integer primary key,
            sha256 text not null,
            width integer not null,
            height integer not null,
            thumbnail blob
        )
        """
    )


def _thumbnails_are_a_choice(conn: sqlite3.Connection) -> None:
    conn.execute(
        "alter table image_search_collections add column thumbnails integer not null default 1"
    )


STEPS = (_first_tables, _thumbnails_are_a_choice)


def refuse_foreign(conn: sqlite3.Connection) -> None:
    """Raises :class:`CatalogError` where something else bears the name of a catalog's table.

    A view or a virtual table may ask our functions, or never end. And a table with lines in it
    that others renamed or copied so may say in which folder pictures are: Datasette lets those
    create tables who could not write to ours. What SQLite has written down of ours begins as no
    other's does, with the name and no quotation marks around it.
    """
    for name in foreign(conn):
        query = "select type = 'view' from main.sqlite_master where name = ?"
        (is_view,) = conn.execute(query, (name,)).fetchone()
        what = "is a view" if is_view else "was not made by datasette-image-search"
        raise CatalogError(
            f"the catalog in {database_name(conn)} is damaged: {name} {what}; "
            "'datasette image-search repair' says what to do."
        )


def foreign(conn: sqlite3.Connection) -> list[str]:
    """What bears the name of a table of the catalog, and was made by something else.

    Of the rows tables those of collections that there are: else one table of such a name would
    end the search of all others. They are known where the list of collections is ours.
    """
    found = _foreign(conn, FIXED)
    if found or not has_table(conn, "image_search_collections"):
        return found
    ids = conn.execute("select id from main.image_search_collections").fetchall()
    return _foreign(conn, {rows_table(number) for (number,) in ids})


def _foreign(conn: sqlite3.Connection, names: Collection[str]) -> list[str]:
    like_ours = "where name like 'image!_search!_%' escape '!'"
    query = f"select type, name, sql from main.sqlite_master {like_ours}"
    return [
        name
        for kind, name, sql in conn.execute(query).fetchall()
        if kind in ("table", "view")
        and name.lower() in names
        and (kind == "view" or not (sql or "").startswith(f"CREATE TABLE {name.lower()} ("))
    ]


def version(conn: sqlite3.Connection) -> int:
    """How many steps this database has had; 0 where there is no catalog."""
    refuse_foreign(conn)
    if not has_table(conn, "image_search_migrations"):
        return 0
    found = conn.execute("select max(step) from main.image_search_migrations").fetchone()[0] or 0
    if found > len(STEPS):
        raise CatalogError(
            f"the catalog in {database_name(conn)} is at step {found}, this version of "
            f"datasette-image-search knows {len(STEPS)}: install a newer version."
        )
    return found


def has_table(conn: sqlite3.Connection, name: str) -> bool:
    query = "select 1 from main.sqlite_master where type = 'table' and name = ?"
    return conn.execute(query, (name,)).fetchone() is not None


def migrate(conn: sqlite3.Connection) -> None:
    """Bring the catalog up to date; the caller holds the transaction."""
    done = version(conn)
    if done == len(STEPS):
        return
    if done == 0 and any(has_table(conn, name) for name in FIXED):
        raise CatalogError(
            f"the catalog in {database_name(conn)} lacks image_search_migrations, or what was in "
            "it: 'datasette image-search repair' makes it anew."
        )
    conn.execute(
        "create table if not exists image_search_migrations "
        "(step integer primary key, at text not null default current_timestamp)"
    )
    for number, step in enumerate(STEPS[done:], done + 1):
        step(conn)
        conn.execute("insert into image_search_migrations (step) values (?)", (number,))


def rows_table(collection_id: int) -> str:
    return f"image_search_rows_{collection_id}"


def free_id(conn: sqlite3.Connection) -> int:
    """For a new collection: others may have made tables of the name that its own would have."""
    query = "select coalesce(max(id), 0) + 1 from main.image_search_collections"
    (number,) = conn.execute(query).fetchone()
    taken = "select 1 from main.sqlite_master where name collate nocase in (?, ?)"
    while conn.execute(taken, (rows_table(number), _index(number))).fetchone():
        number += 1
    return number


def _index(collection_id: int) -> str:
    return f"{rows_table(collection_id)}_picture"


def key_column(number: int) -> str:
    # A name no table of a user's has: filters name their columns without the table's.
    return f"image_search_key{number}"


def key_types(conn: sqlite3.Connection, collection_id: int) -> list[str]:
    """The declared types of a rows table's key columns; none where the table has gone."""
    info = conn.execute(f"pragma main.table_info({rows_table(collection_id)})").fetchall()
    return [row[2] for row in sorted(info, key=lambda row: row[5]) if row[5]]


def create_rows_table(conn: sqlite3.Connection, collection_id: int, table: Table) -> None:
    """Key columns keep the declared types of the user's, so that they compare alike."""
    name = rows_table(collection_id)
    keys = [key_column(number) for number in range(len(table.keys))]
    # An empty name would be a type as well, and take '007' for 7.
    types = [quote(kind) if kind else "" for kind in table.key_types]
    columns = [f"{key} {kind}" for key, kind in zip(keys, types)]
    conn.execute(
        f"""
        create table {name} (
            {", ".join(columns)},
            image_search_source text,
            image_search_fingerprint text,
            image_search_picture integer,
            image_search_error text,
            primary key ({", ".join(keys)})
        ) without rowid
        """
    )
    conn.execute(f"create index {_index(collection_id)} on {name} (image_search_picture)")
