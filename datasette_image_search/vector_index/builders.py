"""How each kind of index is built, by FAISS; :mod:`.engine` says what the kinds are.

What ``ivf`` learns (directions, centres, the range of each number) holds for as long as
the collection is of the same order of size. Until then an index grows out of the one
before: its codes are copied, and a whole write costs the new vectors alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np

from .engine import Clustered, turn


class NotWhole(Exception):
    """The lists of the index before do not name each of its vectors once."""


# Rows (n int64, ascending) → their vectors (n × d float32).
Reader = Callable[[np.ndarray], np.ndarray]

DIRECTIONS = 256
_SAMPLED_DIRECTIONS = 20_000  # vectors that the directions are learnt from
_SAMPLED_EACH_CENTRE = 32
_LEARNT_HOLDS = 2  # times as many vectors as it was learnt from, or a half
_FLAT_HEADER = struct.Struct("<4siqqq?iQ")  # of an IndexFlat, as FAISS writes it


@dataclass(frozen=True)
class Earlier:
    """The index before: ``kept`` are the positions (ascending) that come first in the new one.

    ``learnt_from`` is how many vectors it was trained with, ``scale`` that of its vectors.
    """

    index: Clustered
    kept: np.ndarray
    learnt_from: int
    scale: float

    def suits(self, count: int) -> bool:
        """May an index of ``count`` vectors go on with what this one has learnt?"""
        most = max(count, self.learnt_from)
        return most <= _LEARNT_HOLDS * min(count, self.learnt_from)


class ExactBuilder:
    """Vectors in full precision, inside FAISS's own part of the file."""

    known = 0
    learnt_from = 0

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

    def __init__(self, count: int, dimensions: int, read: Reader, earlier: Earlier | None):
        if earlier is None:
            self.known, self.learnt_from = 0, count
            self._learn(count, dimensions, read)
        else:
            self.known, self.learnt_from = len(earlier.kept), earlier.learnt_from
            self.scale = earlier.scale
            self._go_on_with(earlier.index)
        room = faiss.serialize_index(self._index).nbytes + 16 * self._ivf.nlist
        listed = count * (self._ivf.code_size + 8)
        self.vectors_at = -(-(room + listed) // 4096) * 4096
        self._listed = listed
        if earlier is not None:
            self._copy_codes(earlier)

    def _learn(self, count: int, dimensions: int, read: Reader) -> None:
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
        self._hold(transform, quantizer, ivf)

    def _hold(self, transform, quantizer, ivf) -> None:
        self._ivf = ivf
        self._index = faiss.IndexPreTransform(transform, ivf)
        self._parts = (quantizer, transform)  # FAISS does not keep them alive

    def _go_on_with(self, before: Clustered) -> None:
        """An empty index that has learnt what ``before`` has."""
        transform, old = before.transform(), before.ivf
        quantizer = faiss.clone_index(old.quantizer)
        ivf = faiss.IndexIVFScalarQuantizer(
            quantizer, old.d, old.nlist, faiss.ScalarQuantizer.QT_8bit
        )
        faiss.copy_array_to_vector(faiss.vector_to_array(old.sq.trained), ivf.sq.trained)
        ivf.by_residual = old.by_residual
        ivf.is_trained = True
        self._hold(transform, quantizer, ivf)

    def _copy_codes(self, earlier: Earlier) -> None:
        """What is known of the vectors that stay, under their new positions."""
        old, new, width = earlier.index.lists, self._ivf.invlists, self._ivf.code_size
        place = np.full(earlier.index.count, -1, np.int64)
        place[earlier.kept] = np.arange(self.known)
        seen = np.zeros(self.known, bool)
        for number in range(self._ivf.nlist):
            length = old.list_size(number)
            if length == 0:
                continue
            ids = faiss.rev_swig_ptr(old.get_ids(number), length)
            codes = faiss.rev_swig_ptr(old.get_codes(number), length * width)
            there = (ids >= 0) & (ids < len(place))
            ids = np.where(there, place[np.where(there, ids, 0)], -1)
            stay = ids >= 0
            ids, codes = ids[stay], codes.reshape(length, width)[stay]
            seen[ids] = True
            if len(ids):
                new.add_entries(number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
        if not seen.all() or new.compute_ntotal() != self.known:
            raise NotWhole
        self._ivf.ntotal = self._index.ntotal = self.known

    def add(self, vectors: np.ndarray) -> None:
        self._index.add(vectors)

    def head(self) -> np.ndarray:
        """FAISS's part of the file, now that every vector is there."""
        payload = faiss.serialize_index(self._index)
        self.faiss_bytes = payload.nbytes
        self.trusted = payload.nbytes - self._listed
        return payload


def builder(
    kind: str, count: int, dimensions: int, metric: str, read: Reader, earlier: Earlier | None
):
    """What builds a ``kind`` of index of ``count`` vectors.

    Call ``add`` with all of them in order from ``known`` on, then ``head`` for the bytes
    that FAISS reads; they fit before ``vectors_at``. Of them ``trusted`` are what FAISS's
    reader believes, the rest are vectors and codes, of which any value is a valid one.
    ``earlier``, where it suits, spares the learning.
    """
    if kind == "exact":
        return ExactBuilder(count, dimensions, metric)
    if earlier is not None and earlier.suits(count):
        try:
            return ClusteredBuilder(count, dimensions, read, earlier)
        except NotWhole:
            pass  # the vectors decide, and all of them are there: learn anew
    return ClusteredBuilder(count, dimensions, read, None)


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
    matrix = vectors[:, ::-1][:, :wide].T.astype(np.float32)
    return turn(matrix, -(matrix @ mean))
