"""What the journal says, in memory: vectors added since the base, and ids removed."""

from __future__ import annotations

import numpy as np

from . import engine
from .base import Base
from .identity import Identity
from .journal import Record
from .snapshot import Snapshot


class Tail:
    """Recent vectors by id, and the positions of the base that do not count any more.

    ``end`` is the byte of the journal up to which records have been applied, ``header``
    that of the last one. A record costs the same however many there were before. Rows are
    only ever appended, and masks are replaced rather than changed, so that snapshots made
    before stay as they were.
    """

    def __init__(self, base: Base | None, identity: Identity):
        self.end = 0
        self.header = b""
        self._base = base
        self._rows: dict[int, int] = {}
        self._count = 0
        self._ids = np.empty(0, np.int64)
        self._metric = identity.metric
        self._vectors = np.empty((0, identity.dimensions), np.float32)
        # As the base's index sees them, to find the nearest quickly; else the same array.
        self._projected = self._project(self._vectors)
        self._squares = np.empty(0, np.float32)
        self._dropped: frozenset[int] = frozenset()
        self._gone: np.ndarray | None = None

    def _project(self, vectors: np.ndarray) -> np.ndarray:
        if self._base is None or not self._base.index.approximate:
            return vectors
        return self._base.index.project(vectors)

    def __len__(self) -> int:
        """Vectors here and ids of the base removed: what a whole write would take in."""
        gone = 0 if self._gone is None else int(self._gone.sum())
        return len(self._rows) + gone

    def apply(self, record: Record) -> None:
        """Take in one record. What the base says already, or never knew, changes nothing."""
        positions = np.full(len(record.ids), -1, np.int64)
        if self._base is not None:
            positions = self._base.positions(record.ids)
        in_base = positions >= 0
        self._mark(positions[in_base], gone=record.vectors is None)
        self._drop(record.ids[~in_base])
        if record.vectors is not None:
            self._append(record.ids[~in_base], record.vectors[~in_base])
        self.end, self.header = record.end, record.header

    def _mark(self, positions: np.ndarray, gone: bool) -> None:
        if len(positions) and (gone or self._gone is not None):
            if self._gone is None:
                self._gone = np.zeros(len(self._base.ids), bool)
            else:
                self._gone = self._gone.copy()
            self._gone[positions] = gone
            if not gone and not self._gone.any():
                self._gone = None

    def _drop(self, ids: np.ndarray) -> None:
        rows = {self._rows.pop(id) for id in ids.tolist() if id in self._rows}
        if rows:
            self._dropped = self._dropped | rows

    def _append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        start, self._count = self._count, self._count + len(ids)
        same = self._projected is self._vectors
        self._ids = _with_room(self._ids, start, self._count)
        self._vectors = _with_room(self._vectors, start, self._count)
        self._ids[start : self._count] = ids
        self._vectors[start : self._count] = vectors
        if same:
            self._projected = self._vectors
        else:
            self._projected = _with_room(self._projected, start, self._count)
            self._projected[start : self._count] = self._project(vectors)
        added = self._projected[start : self._count]
        self._squares = _with_room(self._squares, start, self._count)
        self._squares[start : self._count] = engine.dot(added, added)
        if self._metric == "cosine":
            # To one of length 0 it is 0, as between two at right angles: as far as those are.
            self._squares[start : self._count] += engine.dot(vectors, vectors) == 0
        self._rows.update(zip(ids.tolist(), range(start, self._count)))

    def snapshot(self) -> Snapshot:
        """The base and what the journal has said until now, as one thing to search."""
        rows = np.arange(self._count)
        if self._dropped:
            rows = np.setdiff1d(rows, np.fromiter(self._dropped, np.int64))
        return Snapshot(
            self._metric,
            self._base,
            self._gone,
            self._ids[: self._count],
            self._vectors[: self._count],
            self._projected[: self._count],
            self._squares[: self._count],
            rows,
            self._rows,
        )


def _with_room(array: np.ndarray, used: int, wanted: int) -> np.ndarray:
    """``array`` itself, or a larger one with its first ``used`` rows."""
    if wanted <= len(array):
        return array
    larger = np.empty((max(wanted, 2 * len(array)), *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger
