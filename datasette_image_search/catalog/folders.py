"""The folder that a table was loaded from, and how folders are written down."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from . import schema
from .collections import collections, forget_fingerprints, update
from .tables import database_path

_OF_TABLE = "from image_search_folders where table_name = ? collate nocase"


def folder_of(conn: sqlite3.Connection, table: str) -> Path | None:
    """The folder that ``load`` made the table from, or None."""
    if schema.version(conn) == 0:
        return None
    row = conn.execute(f"select folder {_OF_TABLE}", (table,)).fetchone()
    return row and Path(database_path(conn)).parent / row[0]


def remember_folder(conn: sqlite3.Connection, table: str, folder: Path) -> None:
    """What ``load`` was given; the table's collections that looked there before look here now."""
    folder = portable(conn, folder)
    old = conn.execute(f"select folder {_OF_TABLE}", (table,)).fetchone()
    if old and old[0] != folder:
        for record in collections(conn):
            if record.is_of(table) and record.root == old[0]:
                update(conn, record.id, root=folder)
                forget_fingerprints(conn, record)
    conn.execute(f"delete {_OF_TABLE}", (table,))
    conn.execute(
        "insert into image_search_folders (table_name, folder) values (?, ?)", (table, folder)
    )


def portable(conn: sqlite3.Connection, folder: Path) -> str:
    """``folder`` relative to the database's where it lies inside, so both move together.

    A link is remembered as the link: it may lead to a newer folder the next time.
    """
    # What is above a link is not what is before it in its name.
    folder = folder.resolve() if ".." in folder.parts else Path(os.path.abspath(folder))
    home = Path(database_path(conn)).resolve().parent
    for same in (folder, folder.parent.resolve() / folder.name, folder.resolve()):
        if same.is_relative_to(home):
            return same.relative_to(home).as_posix()
    return str(folder)
