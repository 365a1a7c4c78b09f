"""An opened sidecar file: its index, its vectors, and the id at each position."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import SidecarDamaged
from .builders import Earlier
from .engine import Clustered, Exact
from .identity import Identity

_SEEKING = threading.Lock()
_PREADV = getattr(os, "preadv", None)


class StoredVectors:
    """The vectors in an open file, read where they are asked for.

    Read and not mapped: pages that a map has touched count as the process's memory, and
    a busy server would come to hold the whole file.
    """

    def __init__(self, descriptor: int, offset: int, dimensions: int, stored: np.dtype, scale):
        self.descriptor = os.dup(descriptor)  # the file may be replaced: this one stays
        weakref.finalize(self, os.close, self.descriptor)
        self._offset = offset
        self._dimensions = dimensions
        self._stored = stored
        self._width = dimensions * stored.itemsize
        self.scale = scale

    def read(self, positions: np.ndarray) -> np.ndarray:
        """The vectors (n × d float32) at ``positions``."""
        stored = self.stored(positions)
        return widened(stored, self.scale) if self._stored == np.float16 else stored

    def stored(self, positions: np.ndarray) -> np.ndarray:
        """What the file has at ``positions`` (n × d): halves times the scale, or float32."""
        count = len(positions)
        stored = np.empty((count, self._dimensions), self._stored)
        room, width = memoryview(stored.reshape(-1).view(np.uint8)), self._width
        if (
            count > 1
            and positions[-1] - positions[0] == count - 1  # nearly always not
            and (np.diff(positions) == 1).all()
        ):
            fill(room, self.descriptor, self._offset + int(positions[0]) * width)
        else:
            descriptor, start = self.descriptor, self._offset
            for at, position in enumerate(positions.tolist()):
                part = room[at * width : (at + 1) * width]
                offset = start + position * width
                # Nearly always whole at once; this loop is a fifth of a search.
                if _PREADV is None or _PREADV(descriptor, (part,), offset) != width:
                    fill(part, descriptor, offset)
        return stored


def widened(halves: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Finite float16 over ``scale``, a power of two, as float32; seven times as fast as
    ``astype`` and exact.

    The bits are the same with room between them; the exponent, then too small by
    127 - 15, is set right by the multiplication, which also makes subnormals normal.
    """
    bits = halves.view(np.int16).astype(np.int32)  # three copies of the sign beside it
    bits <<= np.int32(13)
    bits &= np.int32(~0x70000000)
    numbers = bits.view(np.float32)
    factor = 2.0**112 / scale
    numbers *= np.float32(min(factor, 2.0**127))
    if factor > 2.0**127:
        numbers *= np.float32(factor / 2.0**127)
    return numbers


def fill(room: memoryview, descriptor: int, offset: int) -> None:
    """Read as many bytes as there is room for; the descriptor's own place stays."""
    while len(room):
        if _PREADV is not None:
            read = _PREADV(descriptor, (room,), offset)
        else:
            with _SEEKING:  # Windows: the place in the file is shared
                os.lseek(descriptor, offset, os.SEEK_SET)
                found = os.read(descriptor, len(room))
            read = len(found)
            room[:read] = found
        if not read:
            raise SidecarDamaged("a FAISS file was cut short while it was open: put it back.")
        room, offset = room[read:], offset + read


@dataclass(frozen=True)
class Base:
    """A sidecar file that has been opened; nothing in it ever changes."""

    index: Exact | Clustered
    vectors: StoredVectors
    ids: np.ndarray
    order: np.ndarray
    identity: Identity
    bytes: int
    footer: dict

    @property
    def kind(self) -> str:
        return self.footer["kind"]

    @property
    def learnt_from(self) -> int:
        return self.footer.get("learnt_from", 0)

    def as_earlier(self, kept: np.ndarray) -> Earlier | None:
        """For an index to grow out of, with the vectors at ``kept`` first; None for exact."""
        if not self.index.approximate:
            return None
        vectors = self.vectors
        return Earlier(self.index, kept, self.learnt_from, vectors.scale, vectors.stored)

    @cached_property
    def zeros(self) -> np.ndarray:
        """Where there are vectors of length 0 that the index takes for nearer than they are."""
        return np.array(self.footer.get("zeros", []), np.int64)

    @cached_property
    def _sorted(self) -> np.ndarray:
        return np.asarray(self.ids)[self.order]

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Where each id is, -1 for those that are not here."""
        if len(self.ids) == 0 or len(ids) == 0:
            return np.full(len(ids), -1, np.int64)
        slots = np.minimum(np.searchsorted(self._sorted, ids), len(self.ids) - 1)
        return np.where(self._sorted[slots] == ids, self.order[slots], -1)
