"""Writing one collection's rows: which of them want work, and what became of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import schema
from .seen_rows import SeenRows, has_picture, text
from .tables import quote

PAGE = 2000
_UNREADABLE = "its key is text that is not valid UTF-8: nothing can name the row."


@dataclass(frozen=True)
class Candidate:
    """A row that has a picture, with what the catalog knew of it the last time.

    ``value`` is the column's text, or None where the picture is a BLOB in it; ``shown``
    is 1 where the catalog has a thumbnail, 0 where it has none, None where it does not
    know the picture.
    """

    key: tuple
    value: str | None
    source: str | None
    fingerprint: str | None
    picture: int | None
    error: str | None
    shown: int | None


@dataclass(frozen=True)
class Outcome:
    """What became of a row: a ``picture`` id, or the ``error`` that a person reads.

    ``is_other``: the picture that it had is another one now, which cannot be shown.
    """

    key: tuple
    source: str | None
    fingerprint: str | None
    picture: int | None
    error: str | None = None
    is_other: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture's content: id from its SHA-256, size in pixels, thumbnail (JPEG) or None."""

    id: int
    sha256: str
    width: int
    height: int
    thumbnail: bytes | None


class RowsWriter(SeenRows):
    """The rows of one collection, for those who embed them.

    Writes belong into the caller's transaction.
    """

    # -- work to do -------------------------------------------------------------

    def candidates(self) -> Iterator[list[Candidate]]:
        """Every row with a picture, in pages, in the order of keys.

        A page is read whole, so that no read is open while results are written.
        """
        keys = ", ".join(self._own_keys)
        after = f" and ({keys}) > ({', '.join('?' for _ in self._own_keys)})"
        start = (
            f"select {keys}, {self._as_read(self._column)}, "
            # Of another type it was not written by us: the row is looked at as if it were new.
            f"{self._rows}.image_search_source, {self._only('text', 'fingerprint')}, "
            f"{self._only('integer', 'picture')}, {self._rows}.image_search_error, "
            "(select thumbnail is not null from image_search_pictures "
            f"where id = {self._rows}.image_search_picture) "
            f"from {self._table} left join {self._rows} on {self._join} "
            f"where {self._wanted} and {self._readable()}"
        )
        end = f" order by {keys} limit {PAGE}"
        width = len(self._keys)
        page = self.conn.execute(start + end).fetchall()
        while page:
            yield [
                Candidate(tuple(row[:width]), text(row[width]), *row[width + 1 :]) for row in page
            ]
            page = self.conn.execute(start + after + end, page[-1][:width]).fetchall()

    def record_unreadable(self) -> int:
        """Record as failed the rows whose key is text that is no UTF-8; how many they are.

        SQLite keeps such text; here it can be neither read nor written, and no page has an
        address for it.
        """
        return self.conn.execute(
            f"insert into {self._rows} ({', '.join(self._keys)}, image_search_source, "
            f"image_search_error) select {', '.join(self._own_keys)}, "
            f"case typeof({self._column}) when 'blob' then null else {self._column} end, ? "
            f"from {self._table} where {self._wanted} and not ({self._readable()}) "
            "on conflict do update set image_search_source = excluded.image_search_source, "
            "image_search_error = excluded.image_search_error",
            (_UNREADABLE,),
        ).rowcount

    def _readable(self) -> str:
        """That the key can be read, as SQL; the writer's connection knows the function."""
        if not self._keeps_utf8():
            return "true"
        return " and ".join(
            f"(typeof({own}) != 'text' or image_search_is_utf8(cast({own} as blob)))"
            for own in self._own_keys
        )

    def _only(self, kind: str, name: str) -> str:
        column = f"{self._rows}.image_search_{name}"
        return f"case typeof({column}) when '{kind}' then {column} end"

    def values(self) -> Iterator:
        """What each row with a picture has in its column; None for a BLOB."""
        column = self._as_read(self._column)
        for (value,) in self.conn.execute(
            f"select {column} from {self._table} where {self._wanted}"
        ):
            yield text(value)

    def count_candidates(self) -> int:
        query = f"select count(*) from {self._table} where {self._wanted}"
        return self.conn.execute(query).fetchone()[0]

    def blob(self, key: tuple) -> bytes:
        """The BLOB in the row's picture column; empty if the row has gone."""
        blob = self._in_column("{}", key)
        return blob if isinstance(blob, bytes) else b""

    def blob_size(self, key: tuple) -> int:
        """Its bytes, without reading them."""
        return self._in_column("length({})", key) or 0

    def _in_column(self, expression: str, key: tuple):
        """Of the row's picture column; None if the row has gone."""
        test = " and ".join(f"{own} = ?" for own in self._own_keys)
        wanted = expression.format(quote(self.collection.column_name))
        row = self.conn.execute(f"select {wanted} from {self._table} where {test}", key).fetchone()
        return row and row[0]

    def shows(self, id: int, sha256: str) -> int | None:
        """1 where the catalog has a thumbnail of a picture, 0 where not, None if unknown."""
        query = (
            "select thumbnail is not null from image_search_pictures where id = ? and sha256 = ?"
        )
        row = self.conn.execute(query, (id, sha256)).fetchone()
        return row and row[0]

    # -- writing ----------------------------------------------------------------

    def record(self, outcomes: list[Outcome], pictures: list[Picture]) -> None:
        """Write what became of some rows.

        A row that fails keeps the picture it had, unless that is another one now.
        """
        self.conn.executemany(
            "insert into image_search_pictures (id, sha256, width, height, thumbnail) "
            "values (?, ?, ?, ?, ?) on conflict (id) do update set "
            "thumbnail = coalesce(excluded.thumbnail, thumbnail)",
            [(p.id, p.sha256, p.width, p.height, p.thumbnail) for p in pictures],
        )
        self.conn.executemany(
            f"update {self._rows} set image_search_picture = null where {self._match_key}",
            [o.key for o in outcomes if o.is_other],
        )
        marks = ", ".join("?" for _ in range(len(self._keys) + 4))
        self.conn.executemany(
            f"insert into {self._rows} ({', '.join(self._keys)}, image_search_source, "
            "image_search_fingerprint, image_search_picture, image_search_error) "
            f"values ({marks}) on conflict do update set "
            "image_search_source = excluded.image_search_source, "
            "image_search_fingerprint = excluded.image_search_fingerprint, "
            "image_search_picture = case "
            "when excluded.image_search_source is image_search_source "
            "then coalesce(excluded.image_search_picture, image_search_picture) "
            "else excluded.image_search_picture end, "
            "image_search_error = excluded.image_search_error",
            [(*o.key, o.source, o.fingerprint, o.picture, o.error) for o in outcomes],
        )

    def forget_pictures(self, ids: np.ndarray) -> None:
        """Leave the rows of these pictures without one."""
        self.conn.executemany(
            f"update {self._rows} set image_search_picture = null where image_search_picture = ?",
            [(id,) for id in ids.tolist()],
        )

    def forget_gone(self) -> int:
        """Drop rows that are no longer there, or no longer have a picture; how many."""
        return self.conn.execute(
            f"delete from {self._rows} where not exists (select 1 from {self._table} "
            f"where {self._join} and {has_picture(self._column)})"
        ).rowcount


def drop_unwanted_thumbnails(conn: sqlite3.Connection, collection_ids: list[int]) -> None:
    """Drop the thumbnails of pictures that no row of these collections has."""
    conn.execute("pragma main.secure_delete = on")  # else they are still in the file
    conn.executemany(
        "update image_search_pictures set thumbnail = null where id = ?",
        _unused(conn, collection_ids, "thumbnail is not null"),
    )


def drop_unused_pictures(conn: sqlite3.Connection, collection_ids: list[int]) -> None:
    """Drop the pictures (and thumbnails) that no row of any collection has."""
    conn.execute("pragma main.secure_delete = on")
    conn.executemany(
        "delete from image_search_pictures where id = ?", _unused(conn, collection_ids, "true")
    )


def _unused(conn: sqlite3.Connection, collection_ids: list[int], where: str) -> list[tuple]:
    """(id,) of the pictures that fit ``where`` and that no row of these collections has.

    Each collection is asked once: SQLite would look into all of them for each picture, for
    minutes where there are hundreds, and takes no condition on a thousand.
    """

    def ids(column: str, table: str, condition: str) -> np.ndarray:
        query = f"select {column} from {table} where {condition}"
        return np.fromiter((id for (id,) in conn.execute(query)), np.int64)

    # Of another type it was not written by us, and is no picture's.
    picture, is_id = "image_search_picture", "typeof(image_search_picture) = 'integer'"
    used = [ids(picture, schema.rows_table(id), is_id) for id in collection_ids]
    unused = ids("id", "image_search_pictures", where)
    if used:
        unused = np.setdiff1d(unused, np.concatenate(used))
    return [(id,) for id in unused.tolist()]
