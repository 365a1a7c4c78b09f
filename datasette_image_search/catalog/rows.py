"""One collection's rows: which row has which picture."""

from __future__ import annotations

import json
import re
import sqlite3
from ast import literal_eval
from contextlib import suppress

import numpy as np

from ..wording import command_line
from . import schema, shown
from .collections import CollectionRecord, damaged
from .shown import Shown
from .tables import database_name, quote

# One literal and no more: what a parser may come to its end with is any expression between two.
_BLOB = re.compile(r"""b(['"])(?:(?!\1)[ -\[\]-~]|\\(?:[\\'"tnr]|x[0-9a-f]{2}))*\1""")


class Rows:
    """The rows of one collection beside the user's table.

    Reads go through any connection to the database. ``where`` is an SQL condition on the
    user's table, ``parameters`` its named values.
    """

    def __init__(self, conn: sqlite3.Connection, collection: CollectionRecord):
        self.conn = conn
        self.collection = collection
        # Of this database: a temporary table of the same name is another one.
        self._rows = f"main.{schema.rows_table(collection.id)}"
        self._table = f"main.{quote(collection.table_name)}"
        self._keys = [schema.key_column(i) for i in range(len(collection.key_columns))]
        self._own_keys = [f"{self._table}.{quote(k)}" for k in collection.key_columns]
        # Both ways: the first name's collation counts, and lets SQLite use that one's index.
        pairs = [(f"{self._rows}.{key}", own) for key, own in zip(self._keys, self._own_keys)]
        self._join = " and ".join(f"{key} = {own} and {own} = {key}" for key, own in pairs)
        self._match_key = " and ".join(f"{self._rows}.{key} = ?" for key in self._keys)
        self._thumbnail = shown.thumbnail(collection)

    def find(self, key: tuple) -> tuple | None:
        """The key as it is stored (``"7"`` finds 7, ``"b'7'"`` a BLOB), or None where there is no
        such row."""
        test = " and ".join(f"{own} = ?" for own in self._own_keys)
        query = f"select {', '.join(self._own_keys)} from {self._table} where {test} limit 1"
        row = self.conn.execute(query, key).fetchone()
        if row is None:
            # A column without a type compares text with text, and an address is text.
            kept = tuple(map(_as_kept, key))
            row = None if kept == key else self.conn.execute(query, kept).fetchone()
        return row and tuple(row)

    def picture_of(self, key: tuple) -> tuple[int | None, str | None]:
        """(picture id, reason for there being none) of a row; (None, None) if unknown."""
        query = (
            f"select {self._rows}.image_search_picture, {self._rows}.image_search_error "
            f"from {self._rows} where {self._match_key}"
        )
        picture, reason = self.conn.execute(query, key).fetchone() or (None, None)
        return self._checked(picture), reason

    def following(self, key: tuple, most: int, backwards: bool = False) -> list[tuple[tuple, int]]:
        """(key, picture id) of the rows after ``key`` that are there, in the order of keys.

        Looks at the next ``most``, however many of them have gone or have no picture: the key of
        one without may be text that cannot be read.
        """
        way, order = ("<", " desc") if backwards else (">", "")
        names = [f"{self._rows}.{name}" for name in self._keys]
        picture = f"{self._rows}.image_search_picture"
        own = [f"case when {picture} is not null then {name} end" for name in self._own_keys]
        query = (
            f"select {', '.join(own)}, {picture} "
            f"from {self._rows} left join {self._table} on {self._join} "
            f"where ({', '.join(names)}) {way} ({', '.join('?' for _ in names)}) "
            f"order by {', '.join(name + order for name in names)} limit {int(most)}"
        )
        return [
            (tuple(row[:-1]), self._checked(row[-1]))
            for row in self.conn.execute(query, key).fetchall()
            if row[0] is not None
        ]

    def with_pictures(
        self, ids: list[int], most: int, where: str | None = None, parameters: dict | None = None
    ) -> list[tuple[int, tuple]]:
        """(picture id, key) of the rows that are there and have one of ``ids``.

        Those of a picture in the order of keys, at most ``most`` of them: a hundred thousand
        rows may share a "no photo yet".
        """
        keys = ", ".join(self._own_keys)
        picture = f"{self._rows}.image_search_picture"
        # From the few pictures to their rows ("cross"), whatever index the user's table has.
        which = (
            f"select {picture}, {keys} from {self._rows} cross join {self._table} on {self._join} "
            f"where {picture}"
        )
        # Nearly always these are all there are. Their order is made of so many only: the second
        # limit keeps SQLite from making one query of the two.
        enough = len(ids) + most
        query = (
            f"select * from ({which} in (select value from json_each(:image_search_ids))"
            f"{and_(where)} limit {enough}) "
            f"order by {', '.join(str(number + 2) for number in range(len(self._keys)))} "
            f"limit {enough}"
        )
        values = {**(parameters or {}), "image_search_ids": json.dumps(ids)}
        rows = self.conn.execute(query, values).fetchall()
        if len(rows) == enough:
            in_turn = ", ".join(f"{self._rows}.{key}" for key in self._keys)
            query = f"{which} = :image_search_id{and_(where)} order by {in_turn} limit {int(most)}"
            rows = []
            for id in ids:
                values = {**(parameters or {}), "image_search_id": id}
                rows += self.conn.execute(query, values).fetchall()
        return [(row[0], row[1:]) for row in rows]

    def picture_ids(self, where: str | None = None, parameters: dict | None = None) -> np.ndarray:
        """The ids (int64) of the pictures of all rows that fit ``where``."""
        # First the rows that fit ("cross"): to have them distinct, SQLite would go through all
        # pictures, and look at the row of each.
        query = (
            f"select distinct {self._rows}.image_search_picture "
            f"from {self._table} cross join {self._rows} on {self._join} "
            f"where {self._rows}.image_search_picture is not null{and_(where)}"
        )
        return self._ids(self.conn.execute(query, parameters or {}).fetchall())

    def thumbnail_of(self, key: tuple) -> bytes | None:
        return self.picture_and_thumbnail(key)[1]

    def picture_and_thumbnail(self, key: tuple) -> tuple[int | None, bytes | None]:
        """(picture id, its thumbnail) of a row; (None, None) without a picture."""
        query = (
            f"select image_search_picture, {self._thumbnail} from {self._rows} "
            "left join main.image_search_pictures on id = image_search_picture "
            f"where {self._match_key}"
        )
        picture, thumbnail = self.conn.execute(query, key).fetchone() or (None, None)
        return self._checked(picture), self._checked(thumbnail, bytes, "thumbnail", "--replace")

    def preview(self, key: tuple) -> tuple[int | None, bool]:
        """(picture id, is there a thumbnail of it) of a row; (None, False) without one."""
        query = (
            f"select image_search_picture, (select {self._thumbnail} is not null "
            "from main.image_search_pictures where id = image_search_picture) "
            f"from {self._rows} where {self._match_key}"
        )
        picture, thumbnail = self.conn.execute(query, key).fetchone() or (None, False)
        return self._checked(picture), bool(thumbnail)

    def first(
        self, most: int, where: str | None = None, parameters: dict | None = None
    ) -> list[tuple]:
        """The keys of the first rows, by key, that fit ``where`` and have a picture."""
        query = (
            f"select {', '.join(self._own_keys)} from {self._table} "
            f"join {self._rows} on {self._join} "
            f"where {self._rows}.image_search_picture is not null{and_(where)} "
            f"order by {', '.join(self._own_keys)} limit {int(most)}"
        )
        return [tuple(row) for row in self.conn.execute(query, parameters or {}).fetchall()]

    def shown(self, keys: list[tuple], columns: list[str] | None = None) -> list[Shown]:
        """The rows of ``keys`` that are there, in that order: whole, or these ``columns``."""
        return [
            Shown(key, values, self._checked(picture), has_thumbnail)
            for key, values, picture, has_thumbnail in shown.read(
                self.conn, self.collection, keys, columns
            )
        ]

    def contents(self, keys: list[tuple]) -> tuple[tuple[str, ...], list[tuple]]:
        """(column names, rows) of the user's table, the rows in the order of ``keys``; None for
        one that is not there."""
        test = " and ".join(f"{own} = ?" for own in self._own_keys)
        query = f"select * from {self._table} where {test}"
        rows = [self.conn.execute(query, key).fetchone() for key in keys]
        described = self.conn.execute(f"select * from {self._table} limit 0").description
        return tuple(column[0] for column in described), rows

    def labelled(self, column: str, where: str | None = None) -> dict[int, object]:
        """picture id → the row's value in ``column``, of rows that have both.

        Of rows that share a picture, the first by key speaks. An empty text is no value: it is
        what an empty field of a CSV file becomes.
        """
        label = f"{self._table}.{quote(column)}"
        query = (
            f"select {self._rows}.image_search_picture, {label} "
            f"from {self._table} join {self._rows} on {self._join} "
            f"where {self._rows}.image_search_picture is not null "
            f"and {label} is not null and {label} != ''{and_(where)} "
            f"order by {', '.join(self._own_keys)}"
        )
        found: dict[int, object] = {}
        for id, value in self.conn.execute(query):
            found.setdefault(self._checked(id), value)
        return found

    def embedded(self) -> int:
        """How many rows have a picture, as the last embed saw them."""
        query = f"select count({self._rows}.image_search_picture) from {self._rows}"
        return self.conn.execute(query).fetchone()[0]

    def is_empty(self) -> bool:
        """Has no row been looked at yet?"""
        return self.conn.execute(f"select 1 from {self._rows} limit 1").fetchone() is None

    def has_pictures(self) -> bool:
        """Has a row of this collection a picture?"""
        return len(self.pictures_in_use(1)) > 0

    def pictures_in_use(self, most: int = -1) -> np.ndarray:
        """The ids (int64) of every picture that a row of this collection has; ``most`` of them."""
        query = (
            f"select distinct image_search_picture from {self._rows} "
            "where image_search_picture is not null limit ?"
        )
        return self._ids(self.conn.execute(query, (most,)).fetchall())

    def _ids(self, rows: list[tuple]) -> np.ndarray:
        ids = [id for (id,) in rows]
        if not set(map(type, ids)) <= {int}:  # a call for each of a million takes a second
            ids = [self._checked(id) for id in ids]
        return np.array(ids, np.int64)

    def _checked(self, value, kind: type = int, name: str = "picture", *how: str):
        """``value``, if it is what it should be: the column holds whatever was put there."""
        if value is None or isinstance(value, kind):
            return value
        table = self.collection.table_name
        again = command_line("embed", database_name(self.conn), self.collection.name, *how)
        raise damaged(
            self.conn, f"a row of {table!r} has {name}", value, f": {again} makes it anew"
        )


def _as_kept(value):
    """What Datasette has written as this text in a row's path, if it is no text; else ``value``.

    That is Python's ``str()`` of a number or a BLOB.
    """
    if not isinstance(value, str):
        return value
    if _BLOB.fullmatch(value):
        with suppress(ValueError, SyntaxError):
            blob = literal_eval(value)
            return blob if str(blob) == value else value
    for kind in (int, float):
        with suppress(ValueError):
            number = kind(value)
            is_sqlites = kind is float or -(2**63) <= number < 2**63
            if str(number) == value and is_sqlites:
                return number
    return value


def and_(where: str | None) -> str:
    # On lines of its own: a comment at its end must not swallow the parenthesis.
    return f" and (\n{where}\n)" if where else ""
