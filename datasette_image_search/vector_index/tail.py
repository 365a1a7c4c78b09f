"""What the journal says, in memory: vectors added since the base, and ids removed."""

from __future__ import annotations

import numpy as np

from .base_file import Base
from .journal import Record


class Tail:
    """Recent vectors by id, and the ids of the base that do not count any more.

    ``end`` is the byte of the journal up to which records have been applied.
    """

    def __init__(self, dimensions: int):
        self.end = 0
        self.removed: set[int] = set()
        self._vectors: dict[int, np.ndarray] = {}
        self._dimensions = dimensions
        self._arrays: tuple[np.ndarray, np.ndarray, dict] | None = None
        self._excluded: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._vectors)

    def apply(self, record: Record) -> None:
        ids = record.ids.tolist()
        if record.vectors is None:
            for id in ids:
                self._vectors.pop(id, None)
            self.removed.update(ids)
        else:
            self._vectors.update(zip(ids, record.vectors))
            self.removed.difference_update(ids)
        self.end = record.end
        self._arrays = self._excluded = None

    def rebase(self, base: Base | None) -> None:
        """Drop what the base already says: its own ids added, unknown ids removed."""
        if base is None:
            self.removed.clear()
        else:
            for id in self._in_base(base, list(self._vectors)):
                del self._vectors[id]
            self.removed = set(self._in_base(base, list(self.removed)))
        self._arrays = self._excluded = None

    @staticmethod
    def _in_base(base: Base, ids: list[int]) -> list[int]:
        ids = np.asarray(ids, np.int64)
        return ids[base.positions(ids) >= 0].tolist()

    def _stacked(self) -> tuple[np.ndarray, np.ndarray, dict]:
        if self._arrays is None:
            ids = np.fromiter(self._vectors, np.int64, len(self._vectors))
            matrix = np.empty((len(ids), self._dimensions), np.float32)
            for row, vector in enumerate(self._vectors.values()):
                matrix[row] = vector
            self._squares = np.einsum("ij,ij->i", matrix, matrix)
            self._arrays = ids, matrix, {id: row for row, id in enumerate(ids.tolist())}
        return self._arrays

    def ids(self) -> np.ndarray:
        return self._stacked()[0]

    def nearest(self, query: np.ndarray, k: int) -> np.ndarray:
        """Ids of candidates: the ``k`` nearest are among them (float32, a few to spare)."""
        ids, matrix, _ = self._stacked()
        wanted = k + 16
        if len(ids) <= wanted:
            return ids
        # |q - v|² less |q|²; for vectors of length 1 the order of the inner product.
        far = self._squares - 2 * (matrix @ query)
        return ids[np.argpartition(far, wanted)[:wanted]]

    def matrix(self) -> np.ndarray:
        """The recent vectors, one a row, in the order of :meth:`ids`."""
        return self._stacked()[1]

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """The row of each id in :meth:`matrix`, -1 for those that are not here."""
        where = self._stacked()[2]
        return np.fromiter((where.get(id, -1) for id in ids.tolist()), np.int64, len(ids))

    def removed_ids(self) -> np.ndarray:
        return np.fromiter(self.removed, np.int64, len(self.removed))

    def excluded(self, base: Base) -> np.ndarray | None:
        """A mask over the base's positions of those removed, or None where none are."""
        if not self.removed:
            return None
        if self._excluded is None:
            self._excluded = np.zeros(len(base.ids), bool)
            self._excluded[base.positions(self.removed_ids())] = True
        return self._excluded
