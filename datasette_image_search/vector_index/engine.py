"""FAISS, and nothing else: the kinds of index, and how each is searched.

An engine knows vectors by position (0, 1, 2, …); which picture a position is, and
which positions still count, is not its business.

``exact``   every vector is compared, in full precision.
``ivf``     vectors are turned to their 256 widest directions (PCA), kept there in
            8 bits a number, and grouped around centres; a search looks into the groups
            nearest to it (an inverted file: Sivic and Zisserman 2003). What it finds are
            candidates: the caller ranks them by the vectors themselves.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from ..errors import UsageError

# ``auto`` is exact up to so many floats: 2 to 3 ms a query, of which SQL may ask a thousand.
QUICK_FLOATS = 5_000 * 2048


# FAISS compares several queries by a product of matrices once they are so many floats. Of 2048-wide
# vectors eight take half the time so, and 64 a tenth. (Versions that count queries say 20.)
BLAS_FLOATS = 8 * 2048
if faiss.cvar.distance_compute_blas_threshold > BLAS_FLOATS:
    faiss.cvar.distance_compute_blas_threshold = BLAS_FLOATS


# So many are searched for by one thread, in groups and among all vectors: by several no sooner, as
# these wait awake for more to do, and much later where another process wants the processor.
FEW_QUERIES = 64
FEW_QUERIES_EXACT = 8


@dataclass(frozen=True)
class Kind:
    """One kind of index. ``stored`` is the type of the vectors that the file keeps."""

    name: str
    stored: str
    description: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind("exact", "<f4", "every vector is compared, in full precision"),
        Kind("ivf", "<f2", "compressed and approximate; ranked in half precision"),
    )
}
CHOICES = ("auto", *KINDS)


def choose(kind: str, count: int, dimensions: int = 2048) -> str:
    """The kind that ``auto`` stands for at ``count`` vectors; any other name as it is."""
    if kind == "auto":
        return "exact" if count * dimensions <= QUICK_FLOATS else "ivf"
    if kind not in KINDS:
        raise UsageError(
            f"there is no kind of index named {kind!r}; there are {', '.join(CHOICES)}."
        )
    return kind


def selector(mask: np.ndarray) -> faiss.IDSelector:
    """What lets a search see only the positions where ``mask`` is true."""
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


def dot(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """``vectors @ query``, or of each vector with its own row where there are as many.

    In this thread, as BLAS multiplies two vectors: for one query, waking others takes
    longer, and on a busy machine much longer.
    """
    return np.matmul(vectors[:, None, :], query[..., None])[:, 0, 0]


def dots(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """``queries @ vectors.T`` (q × n), with other threads where there is enough to do.

    BLAS's threads go on spinning for a while, and whatever is done next has one processor less.
    """
    if 0 < len(queries) <= 64 and vectors.size <= 2**20:
        return np.stack([dot(vectors, query) for query in queries])
    return queries @ vectors.T


class Exact:
    """Every vector compared."""

    approximate = False

    def __init__(self, index: faiss.Index):
        self._index = index
        self.count, self.dimensions = index.ntotal, index.d

    def project(self, vectors: np.ndarray) -> np.ndarray:
        return vectors

    def candidates(self, k: int) -> int:
        """How many to ask for to have the ``k`` nearest among them: rounding, and ties."""
        return k + 16

    def search(self, queries, wanted: int, there: int, chosen: faiss.IDSelector | None = None):
        parameters = faiss.SearchParameters(sel=chosen) if chosen is not None else None
        with _one_thread(len(queries) <= FEW_QUERIES_EXACT):
            return self._index.search(queries, min(wanted, there), params=parameters)[1]


class Clustered:
    """The groups nearest to a query, more of them until there are enough."""

    approximate = True
    PROBES = 24  # groups looked into, at least, and
    LOOKED_AT = 4000  # vectors

    def __init__(self, index: faiss.Index):
        self._whole = index  # owns the parts
        transform = faiss.downcast_VectorTransform(index.chain.at(0))
        self._ivf = faiss.downcast_index(index.index)
        lists = faiss.downcast_InvertedLists(self._ivf.invlists)
        if hasattr(lists, "prefetch_nthread"):
            lists.prefetch_nthread = 0  # starting threads takes longer than the search
        self.lists = lists
        self.count, self.dimensions = index.ntotal, index.d
        self._centres = self._ivf.nlist
        shape = (transform.d_out, transform.d_in)
        self._turn = faiss.vector_to_array(transform.A).reshape(shape)
        self._shift = faiss.vector_to_array(transform.b)

    @property
    def ivf(self) -> faiss.IndexIVFScalarQuantizer:
        return self._ivf

    def transform(self) -> faiss.LinearTransform:
        """The turn into the directions of the index, to be kept by another."""
        return turn(self._turn, self._shift)

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (n × d) in the directions of the index (n × 256)."""
        return dots(vectors, self._turn) + self._shift

    def candidates(self, k: int) -> int:
        return max(48, 2 * k + 16)

    def search(self, queries, wanted: int, there: int, chosen: faiss.IDSelector | None = None):
        """Positions (q × wanted, -1 where none) of the nearest to projected ``queries``.

        ``there`` is how many positions count: fewer are found only where fewer are there.
        """
        wanted = min(wanted, there)
        rarity = self.count / max(1, there)
        probes = max(self._centres / 128, self._centres * self.LOOKED_AT / max(1, self.count))
        probes = max(self.PROBES, probes) * rarity**0.7
        probes = max(probes, 3 * self._centres * wanted * rarity / max(1, self.count))
        if rarity > 50:
            probes = self._centres  # so few that they may be anywhere
        while True:
            parameters = faiss.SearchParametersIVF(nprobe=min(self._centres, int(probes)))
            if chosen is not None:
                parameters.sel = chosen
            with _one_thread(len(queries) <= FEW_QUERIES):
                positions = self._ivf.search(queries, wanted, params=parameters)[1]
            if probes >= self._centres or not (positions < 0).any():
                return positions
            probes *= 4


@contextmanager
def _one_thread(alone: bool):
    if not alone:
        yield
        return
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def turn(matrix: np.ndarray, shift: np.ndarray) -> faiss.LinearTransform:
    """``matrix @ vector + shift``, as FAISS keeps it in a file."""
    made = faiss.LinearTransform(matrix.shape[1], matrix.shape[0], True)
    faiss.copy_array_to_vector(np.ascontiguousarray(matrix, np.float32).ravel(), made.A)
    faiss.copy_array_to_vector(np.ascontiguousarray(shift, np.float32), made.b)
    made.is_trained = True
    return made


def open_index(path: Path, kind: str, *, held: bool) -> Exact | Clustered:
    """Open what a builder wrote, mapped unless all of it is to be ``held`` in memory.

    It must have been checked before.

    Raises RuntimeError where FAISS cannot read it.
    """
    mapped = faiss.IO_FLAG_MMAP_IFC if kind == "exact" else faiss.IO_FLAG_MMAP
    index = faiss.read_index(str(path), mapped if os.name == "posix" and not held else 0)
    return Exact(index) if kind == "exact" else Clustered(index)
