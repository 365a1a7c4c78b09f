"""One state of an index, to be searched by any number of threads: it never changes.

A *place* is where a vector is: a position in the base, or, from the base's size on, a
row of the tail. An index finds places that may be nearest; the vectors there decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import engine
from .base import Base

# Filters that leave no more than these, or this share, are searched vector by vector:
# one costs as much as looking past 500 codes.
FEW = 100
FEW_OF = 1 / 500
# Vectors compared at once: so few stay in the processor's cache.
AT_ONCE = 128
# What float32 may put a cosine wrong by, or a squared distance as a share of the largest.
ROUGHLY = 1e-5
# From this share of all on, filter what an index finds; below, tell it where to look.
MANY = 0.02
MANY_IDS = 20_000


@dataclass(frozen=True)
class Neighbours:
    """The nearest of one query, nearest first: three arrays of the same length.

    ``scores`` are cosine similarities, ``distances`` L2 distances, both float64,
    both computed from the stored vectors and not from an approximation of them.
    """

    ids: np.ndarray
    scores: np.ndarray
    distances: np.ndarray


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to length 1 along the last axis; zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


def compare(query: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarities and L2 distances (n float64 each) of ``query`` to ``vectors``."""
    query = query.astype(np.float64)
    vectors = vectors.astype(np.float64)
    lengths = np.sqrt(engine.dot(vectors, vectors) * query.dot(query))
    scores = engine.dot(vectors, query) / np.where(lengths == 0, 1, lengths)
    vectors -= query
    return np.clip(scores, -1, 1), np.sqrt(engine.dot(vectors, vectors))


@dataclass(frozen=True)
class Snapshot:
    """``gone`` masks the base's positions; ``rows`` are the tail's rows that count."""

    metric: str
    base: Base | None
    gone: np.ndarray | None
    tail_ids: np.ndarray
    tail_vectors: np.ndarray
    tail_projected: np.ndarray
    tail_squares: np.ndarray
    rows: np.ndarray
    row_of: dict[int, int]

    @cached_property
    def _size(self) -> int:
        return 0 if self.base is None else len(self.base.ids)

    @cached_property
    def _in_base(self) -> int:
        return self._size - (0 if self.gone is None else int(self.gone.sum()))

    @cached_property
    def _zeros(self) -> np.ndarray:
        """The base's vectors of length 0 that count: no index finds them where they belong."""
        zeros = self.base.zeros
        return zeros if self.gone is None else zeros[~self.gone[zeros]]

    @cached_property
    def _findable(self):
        """What an index is to search among; None for all."""
        if self.gone is None and len(self._zeros) == 0:
            return None
        mask = np.ones(self._size, bool) if self.gone is None else ~self.gone
        mask[self._zeros] = False
        return engine.selector(mask)

    def __len__(self) -> int:
        return self._in_base + len(self.rows)

    # -- places ---------------------------------------------------------------

    def every_place(self) -> np.ndarray:
        base = np.arange(self._size)
        if self.gone is not None:
            base = base[~self.gone]
        return np.concatenate([base, self.rows + self._size])

    def places(self, ids: np.ndarray) -> np.ndarray:
        """The place of each id, -1 for those that are not here."""
        if self.base is None:
            places = np.full(len(ids), -1, np.int64)
        else:
            places = self.base.positions(ids)
            if self.gone is not None:
                places[(places >= 0) & self.gone[places]] = -1
        if len(self.rows):
            for slot in np.flatnonzero(places < 0):
                row = self.row_of.get(int(ids[slot]), -1)
                # The dict may have gone on since; rows of this snapshot have not, and a row
                # is never another id's.
                if 0 <= row < len(self.tail_ids):
                    places[slot] = self._size + row
        return places

    def ids_at(self, places: np.ndarray) -> np.ndarray:
        ids = np.empty(len(places), np.int64)
        tail = places >= self._size
        ids[tail] = self.tail_ids[places[tail] - self._size]
        if not tail.all():
            ids[~tail] = self.base.ids[places[~tail]]
        return ids

    def read(self, places: np.ndarray) -> np.ndarray:
        """The stored vectors (n × d float32) at ``places``."""
        tail = places >= self._size
        if not tail.any() and self.base is not None:
            return self.base.vectors.read(places)
        vectors = np.empty((len(places), self.tail_vectors.shape[1]), np.float32)
        vectors[tail] = self.tail_vectors[places[tail] - self._size]
        if not tail.all():
            vectors[~tail] = self.base.vectors.read(places[~tail])
        return vectors

    # -- searching ------------------------------------------------------------

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> list[Neighbours]:
        """The ``k`` nearest to each query (q × d float32), among ``allowed`` ids if given."""
        queries = np.ascontiguousarray(queries, np.float32)
        if self.metric == "cosine":
            queries = normalised(queries)
        rows = self.rows
        if allowed is not None:
            allowed = _ascending(np.asarray(allowed, np.int64))
            if len(rows):
                rows = rows[_among(self.tail_ids[rows], allowed)]
        projected = queries
        if self.base is not None:
            projected = np.ascontiguousarray(self.base.index.project(queries), np.float32)
        found = self._search_base(projected, k, allowed)
        recent = self._search_tail(projected, k, rows)
        return [
            self._nearest(query, np.concatenate([places, tail]), k)
            for query, places, tail in zip(queries, found, recent)
        ]

    def _search_tail(self, queries: np.ndarray, k: int, rows: np.ndarray) -> list[np.ndarray]:
        """The places of the tail's candidates: every row compared, in the index's terms."""
        wanted = k + 64
        if len(rows) <= wanted:
            return [rows + self._size] * len(queries)
        vectors, squares = self.tail_projected, self.tail_squares
        if len(rows) < len(vectors):
            vectors, squares = vectors[rows], squares[rows]
        # |q - v|² less |q|²; for vectors of length 1 the order of the inner product.
        far = squares - 2 * engine.dots(queries, vectors)
        return [rows[np.argpartition(row, wanted)[:wanted]] + self._size for row in far]

    def _search_base(self, queries: np.ndarray, k: int, allowed) -> list[np.ndarray]:
        """The places of the base's candidates."""
        if self._in_base == 0:
            return [np.empty(0, np.int64)] * len(queries)
        if allowed is not None and len(allowed) <= max(FEW, FEW_OF * self._size):
            places = self.places(allowed)
            return [places[(places >= 0) & (places < self._size)]] * len(queries)
        found, zeros = self._search_index(queries, k, allowed), self._zeros
        if len(zeros) == 0:
            return found
        if allowed is not None:
            zeros = zeros[_among(self.base.ids[zeros], allowed)]
        return [np.concatenate([row, zeros[:k]]) for row in found]

    def _search_index(self, queries: np.ndarray, k: int, allowed) -> list[np.ndarray]:
        index = self.base.index
        wanted, there = index.candidates(k), self._in_base - len(self._zeros)
        if there == 0:
            return [np.empty(0, np.int64)] * len(queries)
        if allowed is None:
            found = index.search(queries, wanted, there, self._findable)
            return [self._checked(row) for row in found]
        share = len(allowed) / self._size
        if index.approximate and len(allowed) > MANY_IDS and share >= MANY:
            more = int(1.3 * wanted / min(1.0, share)) + 16
            found = index.search(queries, more, there, self._findable)
            found = [self._checked(row) for row in found]
            found = [row[_among(self.base.ids[row], allowed)] for row in found]
            if all(len(row) >= wanted for row in found):
                return found
        places = self.places(allowed)
        places = places[(places >= 0) & (places < self._size)]
        mask = np.zeros(self._size, bool)
        mask[places] = True
        mask[self._zeros] = False
        if not mask.any():
            return [np.empty(0, np.int64)] * len(queries)
        found = index.search(queries, wanted, int(mask.sum()), engine.selector(mask))
        return [self._checked(row) for row in found]

    def _checked(self, positions: np.ndarray) -> np.ndarray:
        """Without the -1 of none, and without what a damaged list may say."""
        return positions[(positions >= 0) & (positions < self._size)]

    def _nearest(self, query: np.ndarray, places: np.ndarray, k: int) -> Neighbours:
        """Order candidates by their true distance; float64, so that ties are ties."""
        if len(places) > k:
            places, vectors = self._near(query, places, k)
        else:
            vectors = self.read(places)
        ids = self.ids_at(places)
        scores, distances = compare(query, vectors)
        nearness = -scores if self.metric == "cosine" else distances
        best = np.lexsort((ids, nearness))[:k]
        return Neighbours(ids[best], scores[best], distances[best])

    def _near(self, query: np.ndarray, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Those of ``places`` that float32 cannot tell from the ``k`` nearest, and their vectors.

        Most of the work: what is clearly farther need not be exact. Of equals, 16 more than
        are asked for at most.
        """
        parts = [places[at : at + AT_ONCE] for at in range(0, len(places), AT_ONCE)]
        far, doubt, vectors = [], 0.0, None
        for part in parts:
            vectors = self.read(part)
            measured, unsure = self._far(query, vectors)
            far.append(measured)
            doubt = max(doubt, unsure)
        far = np.concatenate(far)
        near = np.argpartition(far, min(k + 16, len(far)) - 1)[: k + 16]
        near = near[~(far[near] > np.partition(far[near], k - 1)[k - 1] + doubt)]
        return places[near], vectors[near] if len(parts) == 1 else self.read(places[near])

    def _far(self, query: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, float]:
        """How far each vector is, in terms of its own, and what that may be wrong by."""
        squares = engine.dot(vectors, vectors)
        inner = engine.dot(vectors, query)
        if self.metric == "l2":
            return squares - 2 * inner, ROUGHLY * float(squares.max() + query.dot(query))
        lengths = np.sqrt(squares)
        return -inner / np.where(lengths == 0, 1, lengths), ROUGHLY


def _ascending(ids: np.ndarray) -> np.ndarray:
    """Each id once, in order; quick where they are already."""
    if (ids[1:] > ids[:-1]).all():
        return ids
    return np.unique(ids)


def _among(ids: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Which of ``ids`` are in ``ascending``."""
    if len(ascending) == 0:
        return np.zeros(len(ids), bool)
    slots = np.minimum(np.searchsorted(ascending, ids), len(ascending) - 1)
    return ascending[slots] == ids
