"""Reading ahead: a query that goes through a table asks for the matches of each row in turn,
and many rows asked for together take a fraction of the time.

As an operating system reads a file ahead: who has asked for rows that follow each other is
given the next ones too, twice as many each time, until they are no longer asked for.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress

from .keys import parse_key
from .opened import looked_up
from .search import DEFAULT_K, SLACK, Collection, Match, check_k

# Rows at once, at most; and fewer where many matches of each are wanted.
MOST_ROWS = 64
MOST_MATCHES = 2048
FIRST_ROWS = 4
# A query that leaves out more rows than this between two is not followed.
NEAR = 4
# Nothing interrupts a search of many rows: it shall not take much longer.
SECONDS = 0.1


# Numbers of matches that one query may go through a table with: more are forgotten.
MOST_QUERIES = 8


class ReadAhead:
    """The matches of a collection's rows, for one connection.

    To be forgotten when the database changes; a change of the sidecar it sees itself.
    """

    def __init__(self, collection: Collection):
        self.collection = collection
        self._queries: dict[int, _Query] = {}

    @classmethod
    def kept(cls, conn: sqlite3.Connection, name: str) -> ReadAhead:
        """That of the collection called ``name``, or a table's, as :meth:`Collection.kept`."""
        return looked_up(conn, (cls, name), lambda: cls(Collection.open(conn, name)))

    def similar_to_row(self, argument, k: int = DEFAULT_K) -> list[Match]:
        """As :meth:`Collection.similar_to_row`, of the row that ``argument`` names."""
        k = check_k(k)
        if k not in self._queries:
            if len(self._queries) == MOST_QUERIES:
                self._queries.clear()
            self._queries[k] = _Query(self.collection, k)
        return self._queries[k].similar_to_row(argument)


class _Query:
    """Row after row, each with ``k`` matches."""

    def __init__(self, collection: Collection, k: int):
        self.collection = collection
        self._k = k
        self._ready: dict[tuple, list[Match]] = {}
        self._snapshot = None  # of the index, that these were found in
        self._last: tuple | None = None  # the key asked for last
        self._again: tuple = ()  # how that was put, and its matches
        self._rows = 1  # found together the last time
        self._used = 1  # of these, asked for since
        self._seconds = 0.0  # that they took

    def similar_to_row(self, argument) -> list[Match]:
        snapshot = self.collection.index.refresh()
        if snapshot is not self._snapshot:
            self._ready, self._again = {}, ()
        # SQLite asks for each use of a column, though it be one of a subquery's.
        if not self._again or self._again[:2] != (type(argument), argument):
            self._again = (type(argument), argument, self._matches(argument, snapshot))
        return self._again[2]

    def _matches(self, argument, snapshot) -> list[Match]:
        record = self.collection.record
        key = parse_key(argument, record.key_columns, record.table_name)
        matches = self._taken(key)
        if matches is None:
            key = self.collection.key_of(argument)  # as it is stored: 7, not '7'
            matches = self._taken(key)
        if matches is not None:
            return matches
        picture, _ = self.collection.rows.picture_of(key)
        if picture is None:
            return []
        backwards = _is_before(key, self._last)
        self._rows, self._used = self._how_many(key, backwards), 1
        self._ready, self._snapshot, self._last = {}, snapshot, key
        began = time.monotonic()
        matches = self._found(key, picture, backwards)
        self._seconds = time.monotonic() - began
        return matches

    def _taken(self, key: tuple) -> list[Match] | None:
        matches = self._ready.pop(key, None)
        if matches is not None:
            self._last, self._used = key, self._used + 1
        return matches

    def _found(self, key: tuple, picture: int, backwards: bool) -> list[Match]:
        asked = [(key, picture)]
        if self._rows > 1:
            asked += self.collection.rows.following(key, self._rows - 1, backwards)
        found = self.collection.similar_to_rows(asked, self._k)
        self._ready = dict(zip((key for key, _ in asked), found))
        return self._ready.pop(key)

    def _how_many(self, key: tuple, backwards: bool) -> int:
        """Rows to be found together, ``key`` and those that follow it."""
        most = min(MOST_ROWS, MOST_MATCHES // (self._k + SLACK))
        if most < FIRST_ROWS or self._last is None:
            return 1
        if key not in dict(self.collection.rows.following(self._last, NEAR, backwards)):
            return 1
        if self._used < self._rows / 2:
            return max(1, min(most, self._rows // 2))
        in_time = int(self._rows * SECONDS / max(self._seconds, 1e-6))
        return min(most, max(FIRST_ROWS, min(2 * self._rows, in_time)))


def _is_before(key: tuple, last: tuple | None) -> bool:
    with suppress(TypeError):  # keys of different types: it does not matter which way
        return last is not None and key < last
    return False
