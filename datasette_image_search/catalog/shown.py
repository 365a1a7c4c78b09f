"""Rows as they are shown: what they hold, and which picture each of them has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from . import schema
from .collections import CollectionRecord
from .tables import quote

# What every SQLite takes in one query; some take more.
_MOST_VARIABLES = 999


@dataclass(frozen=True)
class Shown:
    """A row's values (column → value, and ``rowid`` where that is its key) with its picture."""

    key: tuple
    values: dict
    picture: int | None
    has_thumbnail: bool


def thumbnail(collection: CollectionRecord) -> str:
    """As SQL. What another collection keeps of a picture is not this one's to show."""
    return "main.image_search_pictures.thumbnail" if collection.thumbnails else "null"


def read(
    conn: sqlite3.Connection, collection: CollectionRecord, keys: list[tuple],
    columns: list[str] | None = None,
) -> Iterator[tuple]:  # fmt: skip
    """(key, values, picture id, is there a thumbnail) of the rows of ``keys`` that are there.

    In that order, by as few queries as can be. Whole rows, but an empty BLOB for one that is
    the picture; or their ``columns`` alone, of those that there are, and None for a BLOB: to
    show rows, or call them by a name, no pictures need to be read.
    """
    select = _select(conn, collection, columns)
    at_once = max(1, _MOST_VARIABLES // (1 + len(collection.key_columns)))
    for start in range(0, len(keys), at_once):
        part = keys[start : start + at_once]
        cursor = conn.execute(
            _query(collection, len(part), select),
            [value for number, key in enumerate(part) for value in (number, *key)],
        )
        names = [column[0] for column in cursor.description[3:]]
        for number, picture, has_thumbnail, *values in cursor.fetchall():
            yield part[number], dict(zip(names, values)), picture, bool(has_thumbnail)


def _select(
    conn: sqlite3.Connection, collection: CollectionRecord, columns: list[str] | None
) -> str:
    table = f"main.{quote(collection.table_name)}"
    there = [name for name, *_ in conn.execute(f"select * from {table} limit 0").description]
    if columns is None:
        picture = [collection.column_name]
        own = [
            _without_blob(n, "x''") if n in picture else f"image_search_row.{quote(n)}"
            for n in there
        ]
        if collection.key_columns == ("rowid",):
            own.insert(0, "image_search_row.rowid")
    else:
        own = [_without_blob(name, "null") for name in there if name in columns]
    return "".join(f", {column}" for column in own)


def _without_blob(name: str, instead: str) -> str:
    own = f"image_search_row.{quote(name)}"
    return f"case typeof({own}) when 'blob' then {instead} else {own} end as {quote(name)}"


def _query(collection: CollectionRecord, count: int, select: str) -> str:
    """Every column with its table's name: the user's may be called what ours are."""
    rows, pictures = f"main.{schema.rows_table(collection.id)}", "main.image_search_pictures"
    own = [f"image_search_row.{quote(key)}" for key in collection.key_columns]
    marks = f"(?{', ?' * len(own)})"
    names = ", ".join(f"own{number}" for number in range(len(own)))
    same = " and ".join(f"{column} = asked.own{i}" for i, column in enumerate(own))
    recorded = " and ".join(f"{rows}.{schema.key_column(i)} = {c}" for i, c in enumerate(own))
    picture = f"{rows}.image_search_picture"
    return (
        f"with asked (number, {names}) as (values {', '.join([marks] * count)}) "
        f"select asked.number, {picture}, {thumbnail(collection)} is not null{select} "
        f"from asked cross join main.{quote(collection.table_name)} as image_search_row on {same} "
        f"left join {rows} on {recorded} "
        f"left join {pictures} on {pictures}.id = {picture} order by asked.number"
    )
