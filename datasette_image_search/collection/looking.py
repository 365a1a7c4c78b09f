"""What the reading threads ask of the database, through a connection of their own."""

from __future__ import annotations

import sqlite3
import threading

from .. import catalog
from ..catalog import Candidate, CollectionRecord, RowsWriter
from ..errors import SourceError
from ..sources import fetched


class Looking:
    """Asked by any thread, by one at a time. It must outlive them all: a connection that is
    closed while a thread asks through it crashes."""

    def __init__(self, conn: sqlite3.Connection, record: CollectionRecord):
        self._conn = catalog.connect(catalog.database_path(conn))
        self._rows = RowsWriter(self._conn, record)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._conn.close()

    def shows(self, picture: int, digest: str) -> int | None:
        """What the catalog keeps of a picture, as ``Candidate.shown``."""
        with self._lock:
            return self._rows.shows(picture, digest)

    def blob(self, candidate: Candidate) -> bytes:
        """A row's BLOB, where it is decoded: no more are in memory than there are threads."""
        with self._lock:
            size = self._rows.blob_size(candidate.key)
            if size > fetched.MAX_BYTES:
                raise SourceError(fetched.too_large("the BLOB", size))
            return self._rows.blob(candidate.key)

    def values(self) -> list:
        """What all rows have in the column. At once: while somebody reads, nobody can commit."""
        with self._lock:
            return list(self._rows.values())
