"""FAISS, and nothing else: the kinds of index, and how each is built and searched.

An engine knows vectors by position (0, 1, 2, …); which picture a position is, and
which positions still count, is the sidecar's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from ..errors import UsageError

_INNER_PRODUCT, _L2 = faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2


def faiss_metric(metric: str) -> int:
    """Cosine is the inner product of vectors that were stored with length 1."""
    return _INNER_PRODUCT if metric == "cosine" else _L2


@dataclass(frozen=True)
class Kind:
    """One kind of index: ``exact`` finds the true neighbours, the others nearly always."""

    name: str
    exact: bool
    make: Callable[[int, int, int], faiss.Index]  # (count, dimensions, metric)
    description: str


def _flat(count: int, dimensions: int, metric: int) -> faiss.Index:
    return faiss.IndexFlat(dimensions, metric)


KINDS = {
    kind.name: kind
    for kind in (Kind("exact", True, _flat, "every vector is compared, in full precision"),)
}
CHOICES = ("auto", *KINDS)


def choose(kind: str, count: int) -> str:
    """The kind that ``auto`` stands for at ``count`` vectors; any other name as it is."""
    if kind == "auto":
        return "exact"
    if kind not in KINDS:
        raise UsageError(
            f"there is no kind of index named {kind!r}; there are {', '.join(CHOICES)}."
        )
    return kind


def build(kind: str, vectors: np.ndarray, metric: str) -> faiss.Index:
    """A new index of ``vectors`` (n × d float32), positions in their order."""
    count, dimensions = vectors.shape
    index = KINDS[kind].make(count, dimensions, faiss_metric(metric))
    if count:
        if not index.is_trained:
            index.train(vectors)
        index.add(vectors)
    return index


def write(index: faiss.Index, path: Path) -> None:
    faiss.write_index(index, str(path))


def read(path: Path) -> faiss.Index:
    """Read what :func:`write` wrote. The file must have been checked before."""
    return faiss.read_index(str(path))


def search(
    index: faiss.Index, queries: np.ndarray, k: int, excluded: np.ndarray | None
) -> np.ndarray:
    """Positions of the ``k`` nearest to each query (q × d), nearest first, -1 where none.

    ``excluded`` is a boolean mask over positions that do not count any more.
    """
    parameters = None
    if excluded is not None:
        bits = np.packbits(~excluded, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)
        parameters = faiss.SearchParameters(sel=selector)
    _, positions = index.search(queries, k, params=parameters)
    return positions


def vectors_at(index: faiss.Index, positions: np.ndarray) -> np.ndarray:
    """The stored vectors (n × d float32) at ``positions``."""
    if len(positions) == 0:
        return np.empty((0, index.d), np.float32)
    return index.reconstruct_batch(np.ascontiguousarray(positions, np.int64))
