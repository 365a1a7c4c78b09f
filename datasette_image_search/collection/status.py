"""What there is in a database: its collections, their counts, and what failed."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from .. import catalog
from ..catalog import CollectionRecord, SeenRows
from ..errors import ImageSearchError
from .lost import count_lost, told
from .search import Collection


@dataclass(frozen=True)
class CollectionStatus:
    """One collection's state. ``problem`` is a sentence where it cannot be searched, or embed
    cannot go on."""

    record: CollectionRecord
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[tuple, str]] = field(default_factory=list)
    vectors: int = 0
    kind: str = ""
    sidecar_bytes: int = 0
    problem: str | None = None


def status(conn: sqlite3.Connection, most_failures: int | None = 10) -> list[CollectionStatus]:
    """The state of every collection of a database, with its first failures (None: all)."""
    return [_status_of(conn, record, most_failures) for record in catalog.collections(conn)]


def _status_of(conn, record: CollectionRecord, most_failures: int | None) -> CollectionStatus:
    rows, failures = SeenRows(conn, record), []
    name = catalog.database_name(conn)
    try:
        with catalog.plainly(name):
            table = record.table_with_column(conn)
            failures = rows.failures(most_failures)
            catalog.refuse_name_of_a_table(conn, record.name, table.name)
            collection = Collection.open(conn, record.name, of_collection=True)
            counts = rows.counts()
            index = collection.index
            lost = count_lost(rows, index)
            problem = told(name, record, lost) if lost else None
            size = len(index), index.kind, index.bytes
            return CollectionStatus(record, counts, failures, *size, problem)
    except ImageSearchError as error:
        return CollectionStatus(record, failures=failures, problem=str(error))
