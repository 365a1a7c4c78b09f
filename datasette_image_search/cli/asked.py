"""What ``similar`` and ``evaluate`` are asked with: a collection's name, conditions in SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from .. import catalog
from ..collection import Collection
from ..errors import NotFound, UsageError
from ..wording import shortened


def collection_called(conn: sqlite3.Connection, name: str) -> Collection:
    """As ``Collection.open``; where nothing has that name, the collections are named too."""
    try:
        return Collection.open(conn, name)
    except NotFound as error:
        names = [record.name for record in catalog.collections(conn)]
        is_table = any(catalog.same_name(name, table) for table in catalog.table_names(conn))
        if is_table or not names:
            raise
        said = str(error).removesuffix(".")
        raise NotFound(f"{said}; collections: {', '.join(names)}.") from None


@contextmanager
def conditions(collection: Collection, **asked: str | None) -> Iterator[None]:
    """What SQLite says about a condition is said of its option, and not of the database."""
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning):
        for option, condition in asked.items():
            if condition is None:
                continue
            try:
                collection.rows.picture_ids(condition)
            except (sqlite3.Error, sqlite3.Warning) as error:
                collection.rows.picture_ids()  # it may be the database after all
                reason = str(error).rstrip(".")
                raise UsageError(
                    f"SQLite says about --{option} {shortened(condition)!r}: {reason}."
                ) from None
        raise
