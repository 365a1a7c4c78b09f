"""FAISS, and nothing else: the kinds of index, and how each is built and searched.

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
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from ..errors import UsageError

# Rows (n int64, ascending) → their vectors (n × d float32).
Reader = Callable[[np.ndarray], np.ndarray]

# ``auto`` is exact up to so many floats: about 10 ms a query on two cores.
QUICK_FLOATS = 20_000 * 2048
DIRECTIONS = 256
_SAMPLED_DIRECTIONS = 20_000  # vectors that the directions are learnt from
_SAMPLED_EACH_CENTRE = 32
_FLAT_HEADER = struct.Struct("<4siqqq?iQ")  # of an IndexFlat, as FAISS writes it


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
    """``queries @ vectors.T`` (q × n), with other threads where there is enough to do."""
    if len(queries) == 1 and vectors.size <= 2**20:
        return dot(vectors, queries[0])[None]
    return queries @ vectors.T


# -- building -----------------------------------------------------------------------


class ExactBuilder:
    """Vectors in full precision, inside FAISS's own part of the file."""

    def __init__(self, count: int, dimensions: int, metric: str):
        code = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
        empty = faiss.serialize_index(faiss.IndexFlat(dimensions, code)).tobytes()
        # The header alone, so that vectors can stream past it into the file.
        mark, *facts, _ = _FLAT_HEADER.unpack(empty)
        facts[1] = count
        self._header = _FLAT_HEADER.pack(mark, *facts, count * dimensions)
        self.vectors_at = len(self._header)
        self.faiss_bytes = self.vectors_at + 4 * count * dimensions
        self.trusted = self.vectors_at
        self.scale = 1.0

    def add(self, vectors: np.ndarray) -> None:
        """Nothing to do: the file keeps them."""

    def head(self) -> bytes:
        return self._header


class ClusteredBuilder:
    """The compressed index, in memory while it grows: 264 bytes a vector."""

    def __init__(self, count: int, dimensions: int, read: Reader):
        centres = _centres(count)
        random = np.random.default_rng(0)
        most = min(count, max(_SAMPLED_DIRECTIONS, _SAMPLED_EACH_CENTRE * centres))
        rows = random.permutation(count)[:most]
        first = read(np.sort(rows[:_SAMPLED_DIRECTIONS]))
        if count == 0:
            first = np.zeros((1, dimensions), np.float32)
        transform = _directions(first)
        largest = float(np.abs(first).max()) or 1.0
        # A power of two loses nothing; it leaves room for numbers 16 times the largest seen.
        self.scale = 2.0 ** (11 - np.ceil(np.log2(largest)))
        sample = [transform.apply(first)]
        for part in np.array_split(np.sort(rows[_SAMPLED_DIRECTIONS:]), 1 + most // 8192):
            if len(part):
                sample.append(transform.apply(read(part)))
        quantizer = faiss.IndexFlatL2(transform.d_out)
        ivf = faiss.IndexIVFScalarQuantizer(
            quantizer, transform.d_out, centres, faiss.ScalarQuantizer.QT_8bit
        )
        ivf.cp.niter = 8
        ivf.cp.min_points_per_centroid = 1
        ivf.cp.max_points_per_centroid = 2 * _SAMPLED_EACH_CENTRE
        ivf.train(np.concatenate(sample))
        self._ivf = ivf
        self._index = faiss.IndexPreTransform(transform, ivf)
        self._parts = (quantizer, transform)  # FAISS does not keep them alive
        room = faiss.serialize_index(self._index).nbytes + 16 * centres
        listed = count * (ivf.code_size + 8)
        self.vectors_at = -(-(room + listed) // 4096) * 4096
        self._listed = listed

    def add(self, vectors: np.ndarray) -> None:
        self._index.add(vectors)

    def head(self) -> np.ndarray:
        """FAISS's part of the file, now that every vector has been added."""
        payload = faiss.serialize_index(self._index)
        self.faiss_bytes = payload.nbytes
        self.trusted = payload.nbytes - self._listed
        return payload


def builder(kind: str, count: int, dimensions: int, metric: str, read: Reader):
    """What builds a ``kind`` of index of ``count`` vectors.

    Call ``add`` with all of them in order, then ``head`` for the bytes that FAISS reads;
    they fit before ``vectors_at``. Of them ``trusted`` are what FAISS's reader believes,
    the rest are vectors and codes, of which any value is a valid one.
    """
    if kind == "exact":
        return ExactBuilder(count, dimensions, metric)
    return ClusteredBuilder(count, dimensions, read)


def _centres(count: int) -> int:
    """A power of two near 4·√n, each with eight vectors or more."""
    wanted = 2 ** round(np.log2(max(1.0, 4 * count**0.5)))
    return max(1, min(wanted, count // 8))


def _directions(sample: np.ndarray) -> faiss.LinearTransform:
    """The directions in which ``sample`` (n × d) is widest, as a turn into them."""
    mean = sample.mean(axis=0)
    centred = sample - mean
    wide = min(DIRECTIONS, sample.shape[1])
    _, vectors = np.linalg.eigh(centred.T @ centred)
    matrix = np.ascontiguousarray(vectors[:, ::-1][:, :wide].T, np.float32)
    transform = faiss.LinearTransform(sample.shape[1], wide, True)
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    faiss.copy_array_to_vector(-(matrix @ mean), transform.b)
    transform.is_trained = True
    return transform


# -- searching ----------------------------------------------------------------------


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
        return self._index.search(queries, min(wanted, there), params=parameters)[1]


class Clustered:
    """The groups nearest to a query, more of them until there are enough."""

    approximate = True
    PROBES = 24  # groups looked into, at least, and
    LOOKED_AT = 5000  # vectors

    def __init__(self, index: faiss.Index):
        self._whole = index  # owns the parts
        transform = faiss.downcast_VectorTransform(index.chain.at(0))
        self._ivf = faiss.downcast_index(index.index)
        lists = faiss.downcast_InvertedLists(self._ivf.invlists)
        if hasattr(lists, "prefetch_nthread"):
            lists.prefetch_nthread = 0  # starting threads takes longer than the search
        self.count, self.dimensions = index.ntotal, index.d
        self._centres = self._ivf.nlist
        shape = (transform.d_out, transform.d_in)
        self._turn = faiss.vector_to_array(transform.A).reshape(shape)
        self._shift = faiss.vector_to_array(transform.b)

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (n × d) in the directions of the index (n × 256)."""
        return dots(vectors, self._turn) + self._shift

    def candidates(self, k: int) -> int:
        return max(64, 2 * k + 32)

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
            positions = self._ivf.search(queries, wanted, params=parameters)[1]
            if probes >= self._centres or not (positions < 0).any():
                return positions
            probes *= 4


def open_index(path: Path, kind: str) -> Exact | Clustered:
    """Open what a builder wrote, mapped into memory. It must have been checked before.

    Raises RuntimeError where FAISS cannot read it.
    """
    mapped = faiss.IO_FLAG_MMAP_IFC if kind == "exact" else faiss.IO_FLAG_MMAP
    index = faiss.read_index(str(path), mapped if os.name == "posix" else 0)
    return Exact(index) if kind == "exact" else Clustered(index)
