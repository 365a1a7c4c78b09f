"""Connections to a database and its catalog, and what SQLite says put plainly."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from ..errors import CatalogError, CatalogInterrupted, NotFound
from ..wording import decoded
from . import schema

PATIENCE_SECONDS = 10
_LOST = re.compile(r"no such table: (main\.)?image_search_\w+")
_LOCKED = ("database is locked", "database table is locked", "database schema is locked")


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
        try:
            _look_into(path, conn)
            if write:
                conn.create_function("image_search_is_utf8", 1, _is_utf8, deterministic=True)
            else:
                conn.execute("pragma query_only = on")
                conn.text_factory = decoded
        except BaseException:
            conn.close()
            raise
    return conn


@contextmanager
def opened(database: Path | str, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection as :func:`connect` gives it, closed at the end.

    What SQLite says meanwhile is put as :func:`plainly` does; else raises as ``connect``.
    """
    with closing(connect(database, write=write)) as conn, plainly(database):
        yield conn


def _look_into(path: Path, conn: sqlite3.Connection) -> None:
    """SQLite opens whatever there is, and says what is wrong when it is asked something."""
    try:
        conn.execute("select count(*) from sqlite_master")
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):
            raise
        if not Path(f"{path.resolve()}-journal").exists():
            raise CatalogError(
                f"{path} is in SQLite's WAL mode, in which those who read write too, and its "
                "folder cannot be written: give it another mode there where it can be, with "
                f"sqlite3 {path.name} 'pragma journal_mode = delete'."
            ) from error
        raise CatalogInterrupted(
            f"a program was killed while it wrote to {path}, and what it left half done can "
            "be undone only where the file and its folder can be written: open it once there."
        ) from error


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_interrupted(path: Path | str) -> bool:
    """Has a killed writer left a transaction that keeps those who only read from reading?

    What such a transaction overwrote is in the file ``…-journal``, and SQLite puts it
    back before anything is read, where it may write. Quick where there is no such file.
    """
    if not has_journal(path):
        return False
    path = Path(path).resolve()
    try:
        # Without patience: where the file is locked, a writer lives.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0)) as conn:
            conn.execute("pragma schema_version")
    except sqlite3.OperationalError as error:
        return "readonly" in str(error)  # SQLITE_READONLY_ROLLBACK, nameless before Python 3.11
    except sqlite3.Error:
        pass
    return False


def has_journal(path: Path | str) -> bool:
    """Is a transaction being written, or has been when its writer was killed?"""
    try:
        with open(f"{Path(path).resolve()}-journal", "rb") as journal:
            return journal.read(1) not in (b"", b"\0")  # emptied: a finished one may leave that
    except OSError:
        return False


def roll_back(path: Path | str) -> None:
    """Undo what a killed writer left half done; :class:`CatalogInterrupted` where none may."""
    connect(path).close()


@contextmanager
def transaction(conn: sqlite3.Connection):
    """All of it or nothing, with the write lock from the start."""
    conn.execute("begin immediate")
    try:
        yield conn
        conn.execute("commit")  # which fails where somebody reads for longer than the patience
    except BaseException:
        if conn.in_transaction:
            conn.execute("rollback")
        raise


def state(conn: sqlite3.Connection) -> tuple:
    """What is another when anything in the database has changed, by whomever.

    Not within a transaction that may yet be rolled back.
    """
    (others,) = conn.execute("pragma main.data_version").fetchone()
    (schema_version,) = conn.execute("pragma main.schema_version").fetchone()
    return (others, schema_version, conn.total_changes)


def prepare(conn: sqlite3.Connection) -> None:
    """Make or bring up to date the catalog's tables; in the caller's transaction, if any."""
    if schema.version(conn) < len(schema.STEPS):
        with nullcontext() if conn.in_transaction else transaction(conn):
            schema.migrate(conn)


@contextmanager
def plainly(database: Path | str):
    """Turn what SQLite says about a database file into one sentence."""
    name = str(database)
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)  # SQLite's own sentence, or one about a name that may be "full"
        if text.startswith(_LOCKED):
            text = (
                f"{name} is locked by another program and was still after "
                f"{PATIENCE_SECONDS} seconds: close that program, or try again later."
            )
        elif text == "attempt to write a readonly database":
            text = f"{name} cannot be written: the file or its folder is read-only."
        elif _LOST.fullmatch(text):  # somebody has dropped it
            text = (
                f"SQLite says about {name}: {text}, which is the catalog's: "
                "'datasette image-search repair' makes it anew."
            )
        elif text == "database or disk is full":
            text = f"{name} cannot be written: the disk is full."
        else:
            text = f"SQLite says about {name}: {text}."
        raise CatalogError(text) from error
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.Warning) as error:
        # A warning, and no error: a second statement, in Python 3.10.
        raise CatalogError(f"SQLite says about {name}: {str(error).rstrip('.')}.") from error
    except sqlite3.DatabaseError as error:
        raise CatalogError(f"{name} is not a database that can be used: {error}.") from error
