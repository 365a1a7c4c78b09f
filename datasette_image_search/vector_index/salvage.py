"""What is whole in a damaged sidecar file: the vectors whose blocks match their checksums.

An id names one picture for ever, so that a part of the vectors makes a sidecar that lacks
some and is wrong about none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import base_file, footers
from .base import StoredVectors
from .identity import Identity


@dataclass(frozen=True)
class Kept:
    """The whole vectors of a file that had ``count``: their ids, and where they are in it."""

    ids: np.ndarray
    positions: np.ndarray
    vectors: StoredVectors
    kind: str
    count: int

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The vectors (n × d float32) of ``rows`` of ``ids``."""
        return self.vectors.read(self.positions[rows])


def whole_vectors(path: Path, identity: Identity) -> Kept:
    """What can be kept of the file at ``path``.

    Raises :class:`SidecarError` where nothing is known of what is in it: its footer is
    damaged or gone, or other vectors than those of ``identity`` are in it.
    """
    with open(path, "rb") as file:
        footer = footers.read(path, file)
        identity.refuse_other(footers.identity_of(path, footer), path.name)
        whole = base_file.whole_blocks(file.fileno(), footer)
        count, block = footer["count"], footer["block"]
        vectors = base_file.stored_vectors(file, footer, identity.dimensions)
        width = (footer["tables_at"] - footer["vectors_at"]) // max(1, count)
        sound = _whole(whole, block, footer["vectors_at"], width, count)
        sound &= _whole(whole, block, footer["tables_at"], 8, count)
        file.seek(footer["tables_at"])
        ids = np.frombuffer(file.read(8 * count), "<i8").astype(np.int64)
    return Kept(ids[sound], np.flatnonzero(sound), vectors, footer["kind"], count)


def _whole(whole: np.ndarray, block: int, start: int, width: int, count: int) -> np.ndarray:
    """Of ``count`` things of ``width`` bytes from ``start`` on: which lie in whole blocks?"""
    begins = start + width * np.arange(count)
    damaged_before = np.concatenate([[0], np.cumsum(~whole)])
    return damaged_before[(begins + width - 1) // block + 1] == damaged_before[begins // block]
