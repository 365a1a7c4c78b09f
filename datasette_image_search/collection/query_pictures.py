"""The vector of a picture that is in no row: an upload, or a file in the shell."""

from __future__ import annotations

import atexit
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from .. import models, pictures
from ..catalog import CollectionRecord
from ..errors import ModelError
from ..pictures.decoders import Decoders
from .opened import loaded_model

# Somebody waits for the answer, and others for their turn.
DECODE_SECONDS = 10


def picture_vector(
    data: bytes,
    record: CollectionRecord,
    folder: Path,
    extra_models: list | None = None,
    device: str = "auto",
) -> tuple[np.ndarray, bytes]:
    """(vector, thumbnail JPEG) of a picture, made as the collection's vectors were.

    ``folder`` is the database's. Raises :class:`PictureError` where it is no picture,
    :class:`ModelError` where this machine has not the collection's weights.
    """
    model = models.get(record.model, extra_models)

    def embed(pixels: np.ndarray) -> np.ndarray:
        weights = model.find_weights(weights_argument(record.weights_name, folder))
        if weights.sha256 != record.weights:
            raise ModelError(
                f"the collection {record.name!r} was made with weights {record.weights[:12]}…, "
                f"but {weights.path} holds {weights.sha256[:12]}…: put the right file there."
            )
        return loaded_model(model, weights, device).embed(pixels[None])[0]

    vector = None

    def seen(pixels: np.ndarray) -> None:
        nonlocal vector
        vector = _network_thread().submit(embed, pixels)

    geometry = pictures.Geometry(model.input_size, record.resize)
    # The thumbnail is made by the decoder while the network is at work here.
    prepared = _decoders().prepare(data, geometry, seen=seen)
    return vector.result(), prepared.thumbnail


@cache
def _network_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="image-search-network")


@cache
def _decoders() -> Decoders:
    """One process beside this one, that every picture asked with is decoded in."""
    decoders = Decoders(1, seconds=DECODE_SECONDS)
    atexit.register(decoders.close)
    return decoders


def weights_argument(name: str, folder: Path) -> str:
    """Weights as a model takes them: a file beside the database by its whole path."""
    beside = folder / name
    return str(beside) if name and beside.is_file() else name
