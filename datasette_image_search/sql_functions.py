"""The SQL functions, for any ``sqlite3`` connection.

    similar_images(table, id [, k])         JSON array of matches, nearest first
    similar_to_upload(table, token [, k])   the same for an uploaded picture
    image_similarity(table, id, id)         cosine similarity of two rows' pictures

A function sees the collections of the database whose connection it is on, no others.
"""

from __future__ import annotations

import ctypes
import json
import logging
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps

from .errors import ImageSearchError, NotFound, UsageError
from .wording import decoded, shortened

log = logging.getLogger("datasette_image_search")

# (collection's record, token) → the vector of the uploaded picture; raises NotFound.
Remembered = Callable[[object, str], object]


LONGEST_ARGUMENT = 100_000  # characters or bytes; whoever asks may make one of a billion

# A time limit is heard once in a thousand of SQLite's steps, and a call of ours is one of them,
# however long it takes. After so many seconds, a query of more steps than that comes first.
UNHEARD_SECONDS = 0.02
_STEPS = """
    with recursive n (i) as (select 1 union all select i + 1 from n limit 150)
    select max(i) from n
"""


def register(
    conn: sqlite3.Connection, remembered: Remembered | None = None, *, for_reading: bool = False
) -> None:
    """Add the functions to ``conn``; ``remembered`` knows a server's uploaded pictures.

    With ``for_reading`` they refuse to work within a transaction. The last 256 connections that
    have asked by them stay open until they are closed.
    """
    _read_encoding(conn)
    this = _Unheld(conn)

    def similar_images(table, id, k=None):
        from .collection import ReadAhead

        ahead = ReadAhead.kept(this.connection, _name(table))
        if id is None:
            return "[]"
        try:
            return _json(ahead.collection, ahead.similar_to_row(id, *_k(k)))
        except NotFound:
            if id != "":
                raise
            return "[]"  # a canned query's form that nobody has filled in yet

    def similar_to_upload(table, token, k=None):
        collection = _open(this.connection, table)
        if remembered is None:
            raise NotFound("uploaded pictures are known to the server that took them alone.")
        if token is None or token == "":
            return "[]"
        vector = remembered(collection.record, token)
        return _json(collection, collection.similar_to_vector(vector, *_k(k)))

    def image_similarity(table, one, other):
        collection = _open(this.connection, table)
        if one is None or other is None:
            return None
        try:
            return collection.similarity(collection.key_of(one), collection.key_of(other))
        except NotFound:
            if "" not in (one, other):
                raise
            return None

    for function, counts in (
        (similar_images, (2, 3)),
        (similar_to_upload, (2, 3)),
        (image_similarity, (3,)),
    ):
        for count in counts:
            guarded = _guarded(this, function, for_reading)
            conn.create_function(function.__name__, count, guarded)


def _read_encoding(conn: sqlite3.Connection) -> None:
    """SQLite takes a database for UTF-8 until it reads its schema, as our functions make it do.

    Of one in UTF-16 a statement from before that, run again, would be misread.
    """
    with suppress(sqlite3.Error):  # whatever is wrong with the file, the first query says it
        conn.execute("pragma main.encoding").fetchone()


class _Unheld:
    """A connection, for its own functions: they must not keep it alive.

    It keeps them, through SQLite, where no garbage collector sees the circle; and nothing
    can refer to it weakly. A function is called only while its connection is there.
    """

    def __init__(self, conn: sqlite3.Connection):
        by_address = sys.implementation.name == "cpython"
        self._held = None if by_address else conn
        self._address = id(conn)
        self._heard = 0.0

    @property
    def connection(self) -> sqlite3.Connection:
        return self._held or ctypes.cast(self._address, ctypes.py_object).value

    def let_it_be_stopped(self) -> None:
        """Let a time limit stop the query that calls, if it is over."""
        now = time.monotonic()
        if now - self._heard >= UNHEARD_SECONDS:
            self._heard = now
            self.connection.execute(_STEPS).fetchone()


def _open(conn: sqlite3.Connection, table):
    # Imported here: a connection that never asks never pays for numpy and FAISS.
    from .collection import Collection

    return Collection.kept(conn, _name(table))


def _name(table) -> str:
    if not isinstance(table, str):
        raise UsageError(f"the first argument names a table or a collection, not {table!r}.")
    return table


def _k(k) -> tuple:
    return () if k is None or k == "" else (k,)


def _json(collection, matches) -> str:
    keys = collection.record.key_columns
    return _encoder().encode([match.as_dict(keys) for match in matches])


@cache
def _encoder() -> json.JSONEncoder:
    from .collection import as_text

    # Letters as they are: SQLite's ->> does not find an umlaut that is written \\u00fc.
    return json.JSONEncoder(default=as_text, ensure_ascii=False)


def _refuse(conn: sqlite3.Connection, arguments: tuple, for_reading: bool) -> None:
    if for_reading and conn.in_transaction:
        # Whoever may create a table may write a function into it, as a column's default: there
        # it would be asked for one who may see neither the table nor execute SQL.
        raise UsageError(
            "the functions of image search are for reading, and not for within a transaction."
        )
    for argument in arguments:
        if isinstance(argument, (str, bytes)) and len(argument) > LONGEST_ARGUMENT:
            raise UsageError(
                f"an argument has {len(argument):,} characters; {LONGEST_ARGUMENT:,} are the most."
            )


def _guarded(this: _Unheld, function, for_reading: bool):
    """SQLite hides what a function says when it fails, so it is said in the log too.

    One that a time limit has stopped is no failure: the query itself stops then.
    """

    @wraps(function)
    def guarded(*arguments):
        # What the connection's owner makes of rows and of text is not for ours.
        conn = this.connection
        owners = conn.row_factory, conn.text_factory
        conn.row_factory, conn.text_factory = None, decoded
        try:
            this.let_it_be_stopped()
            _refuse(conn, arguments, for_reading)
            return function(*arguments)
        except ImageSearchError as error:
            # An argument of a million characters is in it whole, and would be in the log.
            said = shortened(str(error), 500)
            log.warning("%s(): %s", function.__name__, said)
            raise type(error)(said) from None
        except Exception as error:
            if isinstance(error, sqlite3.OperationalError) and str(error) == "interrupted":
                conn.interrupt()
                return None
            log.exception("%s() failed", function.__name__)
            raise
        finally:
            conn.row_factory, conn.text_factory = owners

    return guarded
