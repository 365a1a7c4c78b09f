"""What an embedding model is, whoever brings it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ..errors import ModelError

NO_DOWNLOAD = "mini"
MOST_BYTES = 8 * 10**9


@dataclass(frozen=True)
class Weights:
    """One set of weights: what the user calls it, its file, and the file's SHA-256."""

    name: str
    path: Path
    sha256: str


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, read once for as long as it stays the same.

    Raises :class:`ModelError` for one that is empty or beyond 8 GB: a database names its weights,
    and may be a stranger's. What the system shows as files may be both, and never end.
    """
    found = path.stat()
    if not 0 < found.st_size <= MOST_BYTES:
        raise ModelError(
            f"the weights {path} have {found.st_size:,} bytes; 1 to {MOST_BYTES:,} are read."
        )
    return _sha256(path, found.st_size, found.st_mtime_ns)


@lru_cache(32)
def _sha256(path: Path, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    left = size
    with open(path, "rb") as file:
        while left and (block := file.read(min(left, 2**20))):
            digest.update(block)
            left -= len(block)
        if left or file.read(1):
            raise ModelError(f"the weights {path} changed while they were read: try again.")
    return digest.hexdigest()


class LoadedModel(Protocol):
    """A network in memory, ready to embed.

    It may have a ``batch_size`` that suits it, and a number of batches ``at_once`` that
    ``embed`` is to be given by as many threads at the same time, each with its share of
    torch's threads.
    """

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Vectors (n × dimensions float32) of n × size × size × 3 uint8 RGB pictures."""


@runtime_checkable
class EmbeddingModel(Protocol):
    """What the hook ``register_image_models`` returns a list of.

    ``id`` is what ``--model`` takes, ``dimensions`` the width of a vector,
    ``input_size`` the side of the square it sees, ``description`` one line.

    A collection knows its model by the id and by the SHA-256 of the weights: code that makes
    other vectors of the same weights needs another id.

    It may have ``knows_weights(name)``: is that a set of weights of its own, so that a file
    which is called the same is not meant?
    """

    id: str
    dimensions: int
    input_size: int
    description: str

    def weights_here(self, name: str | None = None) -> bool:
        """Are the weights on this machine already? Of its own (None), without importing torch."""

    def find_weights(self, name: str | None = None, *, progress: bool = False) -> Weights:
        """The weights called ``name`` (None: the model's own), downloaded if need be.

        Raises :class:`ModelError` where they cannot be had.
        """

    def load(self, weights: Weights, device: str = "auto", precision: str = "auto") -> LoadedModel:
        """Build the network on a device: ``auto``, ``cpu``, ``cuda`` or ``mps``."""


def knows_weights(model: EmbeddingModel, name: str) -> bool:
    """Are the weights of that name the model's own? Any others are a file."""
    own = getattr(model, "knows_weights", None)
    return own is not None and own(name)
