"""One question put to a collection on a read connection, with the rows it answers."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from datasette.utils import sqlite_timelimit

from ..errors import CatalogError, ImageSearchError, SidecarError, UsageError
from ..wording import command_line, visible
from .collections import file_name, is_same, opened
from .filters import Conditions
from .links import from_row_path, has_address
from .uploads import Upload

log = logging.getLogger("datasette_image_search")


@dataclass(frozen=True)
class Row:
    """A row of the table as it is shown: its key, its values, its picture."""

    key: tuple
    values: dict
    picture: int | None
    has_thumbnail: bool
    match: object = None  # a Match, where the row is an answer


@dataclass(frozen=True)
class Answer:
    """``rows`` in match order; ``truncated`` when more would match.

    ``asked`` is the row asked about, if it was one; ``why_none`` a sentence where that
    row has no picture to compare, or where no row has one.
    """

    rows: list[Row] = field(default_factory=list)
    truncated: bool = False
    asked: Row | None = None
    why_none: str | None = None
    pictures: int = 0


# What Python 3.10 raises for a second statement and for a null character; later ones raise
# sqlite3.ProgrammingError.
_ERRORS_OF_310 = (sqlite3.Warning, ValueError)


async def ask(
    datasette, db, record, *, similar: str | None, upload: Upload | None,
    size: int, conditions: Conditions, columns: list[str] | None = None,
) -> Answer:  # fmt: skip
    """The ``size`` rows most like row ``similar`` (a row path) or ``upload``.

    With neither, the first rows that have a picture: something to start from. Of rows
    these ``columns`` are read, or all.
    """
    limit_ms = datasette.sql_time_limit_ms

    def work(conn: sqlite3.Connection) -> Answer:
        from .. import catalog

        with catalog.plainly(db.name):
            collection = opened(conn, record)
            pictures = len(collection.index)  # a sidecar is read before the clock starts
        try:
            with sqlite_timelimit(conn, limit_ms):
                answer = _answer(collection, pictures, similar, upload, size, conditions, columns)
                if not answer.rows and not answer.why_none and _all_failed(collection):
                    return replace(answer, why_none=_why_all_failed(db, record))
                return answer
        except (OverflowError, UnicodeError) as error:  # of values, on their way into SQLite
            raise UsageError("a filter has a value that SQLite cannot hold.") from error
        except (sqlite3.Error, *_ERRORS_OF_310) as error:
            raise _plainly(error, limit_ms, conditions) from error

    with _for_visitors(record):
        return await db.execute_fn(work)


@contextmanager
def _for_visitors(record):
    """What is wrong with a sidecar, and what to do about it, is for those who run the server."""
    try:
        yield
    except SidecarError as error:
        log.error("%s: %s", visible(record.name), error)
        raise SidecarError(
            f"{record.table_name!r} cannot be searched by picture now: this server's index of its "
            "pictures is missing or cannot be used. Its log says why."
        ) from error


def _answer(collection, pictures, similar, upload, size, conditions, columns) -> Answer:
    where, parameters = conditions.where, conditions.parameters
    asked = None
    if similar is not None:
        path = from_row_path(similar, collection.record.key_columns)
        key = collection.key_of(path)
        asked = next(iter(_read(collection, [key], columns)), Row(key, {}, None, False))
        vector = collection.vector_of(asked.key)
        if vector is None:
            reason = _why_no_picture(collection, asked.key)
            return Answer(asked=asked, why_none=reason, pictures=pictures)
    elif upload is not None:
        vector = upload.vector
    else:
        keys = collection.rows.first(size + 1, where, parameters)
        rows = _read(collection, keys[:size], columns)
        return Answer(rows, len(keys) > size, pictures=pictures)
    from ..collection import MAX_K

    without = asked.key if asked else None
    wanted = min(size + 1, MAX_K)
    matches = collection.similar_to_vector(vector, wanted, where, parameters, without)
    rows = _read(collection, [match.key for match in matches[:size]], columns)
    by_key = {match.key: match for match in matches}
    rows = [replace(row, match=by_key[row.key]) for row in rows]
    return Answer(rows, len(matches) > size, asked, pictures=pictures)


def _read(collection, keys: list[tuple], columns: list[str] | None) -> list[Row]:
    return [
        Row(row.key, row.values, row.picture, row.has_thumbnail)
        for row in collection.rows.shown(keys, columns)
    ]


def _why_no_picture(collection, key: tuple) -> str:
    # The reason that was recorded names folders and hosts of the server: not for visitors.
    _, failed = collection.rows.picture_of(key)
    shown = ",".join(str(value) for value in key)
    if failed:
        return (
            f"The picture of row {shown} could not be read: "
            "'datasette image-search status' says why."
        )
    return collection.why_no_picture(key)


def _all_failed(collection) -> bool:
    """Was every picture that has been looked at one that cannot be embedded?"""
    from ..catalog import SeenRows

    seen = SeenRows(collection.conn, collection.record)
    return not collection.rows.first(1) and bool(seen.failures(1))


def _why_all_failed(db, record) -> str:
    return (
        f"No picture of {record.table_name!r} could be embedded so far: "
        f"{command_line('status', file_name(db))} says why."
    )


def _plainly(error: Exception, limit_ms: int, conditions: Conditions):
    text = str(error)
    if text == "interrupted":
        less = "try fewer or simpler filters" if conditions.where else "try again, or ask for fewer"
        return UsageError(
            f"The search took longer than {limit_ms:,} ms, the most this server allows: {less}."
        )
    of_the_text = sqlite3.OperationalError, sqlite3.ProgrammingError, *_ERRORS_OF_310
    if conditions.where and isinstance(error, of_the_text):
        return UsageError(f"SQLite cannot use these filters: {text.rstrip('.')}.")
    return CatalogError(f"SQLite says: {text}.")


async def embedded(db, record) -> int:
    """How many rows of a collection have a picture: several may share one."""

    def work(conn: sqlite3.Connection) -> int:
        from .. import catalog

        with catalog.plainly(db.name):
            return opened(conn, record).rows.embedded()

    return await db.execute_fn(work)


# So many at a time: between them others are answered by the same few threads.
_COVERS_AT_ONCE = 50


async def covers(datasette, db, records: list, most: int = 4) -> list[tuple[int | None, list[Row]]]:
    """(how many pictures, the first rows with a thumbnail) of each collection.

    Nothing of it is needed to search: what fails or takes too long is left out.
    """
    found = []
    for start in range(0, len(records), _COVERS_AT_ONCE):
        found += await _covers(datasette, db, records[start : start + _COVERS_AT_ONCE], most)
    return found


async def _covers(datasette, db, records: list, most: int) -> list:
    def work(conn: sqlite3.Connection) -> list:
        from .. import catalog

        try:
            # The list is read once: to look each collection up is to read all of it.
            now = {record.id: record for record in catalog.collections(conn)}
        except (ImageSearchError, sqlite3.Error):
            now = {}
        return [_cover(datasette, conn, record, now.get(record.id), most) for record in records]

    return await db.execute_fn(work)


def _cover(datasette, conn: sqlite3.Connection, record, now, most: int):
    from ..collection import Collection

    if now is None or not is_same(now, record):  # another's by now, maybe of a hidden table
        return None, []
    try:
        now.table(conn)
        collection = Collection(conn, now, in_passing=True)
        pictures = len(collection.index)
        with sqlite_timelimit(conn, datasette.sql_time_limit_ms):
            keys = collection.rows.first(most)
            rows = _read(collection, keys, columns=[])
        return pictures, [row for row in rows if row.has_thumbnail and has_address(row.key)]
    except (ImageSearchError, sqlite3.Error):
        return None, []
