"""One collection's rows beside what the last embed saw of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice

from .collections import CollectionRecord
from .rows import Rows, and_
from .tables import quote


class SeenRows(Rows):
    """The rows that have a picture to embed: which of them are done, and what became of them."""

    def __init__(self, conn: sqlite3.Connection, collection: CollectionRecord):
        super().__init__(conn, collection)
        self._column = f"{self._table}.{quote(collection.column_name)}"
        # SQLite lets a text key be null; Datasette has no address for such a row.
        named = " and ".join(f"{own} is not null" for own in self._own_keys)
        self._wanted = f"{has_picture(self._column)} and {named}"

    def counts(self) -> dict[str, int]:
        """rows with a picture, each embedded, pending or failed; stale, distinct pictures.

        Pending are new rows, and those whose source is another since the last embed: the
        picture they had is still found. So are those of the failed rows that had one, and have
        no other now: failed_but_found.
        """
        here, seen = self.conn.execute(
            f"select count(*), count({self._rows}.{self._keys[0]}) from {self._table} "
            f"left join {self._rows} on {self._join} where {self._wanted}"
        ).fetchone()
        failed = found = done = 0
        for *_, picture, error in self._unchanged():
            failed += error is not None
            found += error is not None and picture is not None
            done += error is None and picture is not None
        known, pictures = self.conn.execute(
            f"select count(*), count(distinct image_search_picture) from {self._rows}"
        ).fetchone()
        return {
            "rows": here,
            "embedded": done,
            "pictures": pictures,
            "pending": here - done - failed,
            "failed": failed,
            "failed_but_found": found,
            "stale": known - seen,
        }

    def failures(self, most: int | None = 10) -> list[tuple[tuple, str]]:
        """(key, reason) of rows whose picture could not be embedded, and has not changed since."""
        failed = self._unchanged(f"{self._rows}.image_search_error is not null")
        return [(tuple(key), error) for *key, _, error in islice(failed, most)]

    def _unchanged(self, where: str | None = None) -> Iterator[tuple]:
        """(key …, picture id, reason for there being none) of rows as the last embed saw them."""
        own, number = f"{self._rows}.image_search_", f"cast({self._column} as text)"
        rows = self.conn.execute(
            f"select {self._as_read(self._column, number)}, {own}source, "
            f"{', '.join(self._own_keys)}, {own}picture, "
            # of another type it was not written by us
            f"case typeof({own}error) when 'blob' then hex({own}error) else {own}error end "
            f"from {self._table} join {self._rows} on {self._join} "
            f"where {self._wanted}{and_(where)} order by {', '.join(self._own_keys)}"
        )
        for value, source, *rest in rows:
            value = text(value)
            if (None if value is None else str(value)) == source:
                yield rest

    def _as_read(self, column: str, number: str | None = None) -> str:
        """A picture's source in SQL; text as bytes, as one that is no UTF-8 would stop the
        reading of all. :func:`text` makes it text again. A ``number`` as it is, or as is said."""
        as_text = f"cast({column} as blob)" if self._keeps_utf8() else column
        return (
            f"case typeof({column}) when 'blob' then null when 'text' then {as_text} "
            f"else {number or column} end"
        )

    def _keeps_utf8(self) -> bool:
        """Is text given as it was put there? Of other encodings SQLite itself makes UTF-8."""
        return self.conn.execute("pragma main.encoding").fetchone()[0] == "UTF-8"


def has_picture(column: str) -> str:
    """That there is a source in the column, as SQL; a BLOB, however long, is not read for it."""
    return f"{column} is not null and (typeof({column}) = 'blob' or {column} != '')"


def text(value):
    return value.decode(errors="replace") if isinstance(value, bytes) else value
