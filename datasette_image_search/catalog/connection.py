"""Connections for writing the catalog, and what SQLite says put plainly."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from pathlib import Path

from ..errors import CatalogError, NotFound
from . import schema

PATIENCE_SECONDS = 10


def connect(path: Path | str, *, write: bool = False) -> sqlite3.Connection:
    """Open a database that must exist; for reading alone unless ``write``.

    Raises :class:`NotFound` for no such file, :class:`CatalogError` for another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound(f"there is no database {str(path)!r}.")
    with plainly(path):
        conn = sqlite3.connect(
            # For reading too: what a killed writer left half done can be rolled back only by
            # one who may write. SQLite opens a file that is read-only as such by itself.
            f"{path.resolve().as_uri()}?mode=rw",
            uri=True,
            timeout=PATIENCE_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        conn.execute("select count(*) from sqlite_master")
        if not write:
            conn.execute("pragma query_only = on")
    return conn


@contextmanager
def transaction(conn: sqlite3.Connection):
    """All of it or nothing, with the write lock from the start."""
    conn.execute("begin immediate")
    try:
        yield conn
    except BaseException:
        if conn.in_transaction:
            conn.execute("rollback")
        raise
    conn.execute("commit")


def state(conn: sqlite3.Connection) -> tuple:
    """What is another when anything in the database has changed, by whomever.

    Not within a transaction that may yet be rolled back.
    """
    (others,) = conn.execute("pragma main.data_version").fetchone()
    (schema_version,) = conn.execute("pragma main.schema_version").fetchone()
    return (others, schema_version, conn.total_changes)


def prepare(conn: sqlite3.Connection) -> None:
    """Make or bring up to date the catalog's tables."""
    if schema.version(conn) < len(schema.STEPS):
        with transaction(conn):
            schema.migrate(conn)


@contextmanager
def plainly(database: Path | str):
    """Turn what SQLite says about a database file into one sentence."""
    name = str(database)
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            text = (
                f"{name} is locked by another program and was still after "
                f"{PATIENCE_SECONDS} seconds: close that program, or try again later."
            )
        elif "readonly" in text or "read-only" in text:
            text = f"{name} cannot be written: the file or its folder is read-only."
        elif "full" in text:
            text = f"{name} cannot be written: the disk is full."
        else:
            text = f"SQLite says about {name}: {text}."
        raise CatalogError(text) from error
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError) as error:
        raise CatalogError(f"SQLite says about {name}: {str(error).rstrip('.')}.") from error
    except sqlite3.DatabaseError as error:
        raise CatalogError(f"{name} is not a database that can be used: {error}.") from error
