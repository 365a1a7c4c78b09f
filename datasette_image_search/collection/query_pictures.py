"""The vector of a picture that is in no row: an upload, or a file in the shell."""

from __future__ import annotations

import atexit
import os
import threading
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from .. import models, pictures
from ..catalog import CollectionRecord
from ..errors import ModelError
from ..pictures.decoders import Decoders
from ..sources import may_name_a_server
from .opened import loaded_model

# Somebody waits for the answer, and others for their turn.
DECODE_SECONDS = 10


def picture_vector(
    data: bytes,
    record: CollectionRecord,
    folder: Path,
    extra_models: list | None = None,
    device: str = "auto",
    *,
    download: bool = False,
) -> tuple[np.ndarray, bytes]:
    """(vector, thumbnail JPEG) of a picture, made as the collection's vectors were.

    ``folder`` is the database's; weights that this machine has not are had only with
    ``download``. Raises :class:`PictureError` where it is no picture, :class:`ModelError`
    where the collection's weights are not to be had.
    """
    model = models.get(record.model, extra_models)
    name = weights_argument(model, record.weights_name, folder)

    def embed(pixels: np.ndarray) -> np.ndarray:
        if not download and not model.weights_here(name):
            raise ModelError(
                f"the weights of {record.model} are not on this machine: "
                f"'datasette image-search embed' of {record.table_name!r} gets them."
            )
        weights = model.find_weights(name, progress=download)
        if weights.sha256 != record.weights:
            raise ModelError(
                f"the collection {record.name!r} was made with weights {record.weights[:12]}…, "
                f"but {weights.path} holds {weights.sha256[:12]}…: put the right file there."
            )
        network = loaded_model(model, weights, device)
        return models.vectors(network, pixels[None], record.model, record.dimensions)[0]

    geometry = pictures.Geometry(model.input_size, record.resize)
    shown: SimpleQueue = SimpleQueue()
    decoding = _in_background(lambda: _decoders().prepare(data, geometry, seen=shown.put))
    decoding.add_done_callback(lambda _: shown.put(None))
    # The thumbnail is made by the decoder while the network is at work here.
    pixels = shown.get()
    vector = None if pixels is None else embed(pixels)
    prepared = decoding.result()
    if prepared.pixels is not pixels:  # a decoder crashed meanwhile, and another began anew
        vector = embed(prepared.pixels)
    return vector, prepared.thumbnail


def _in_background(work) -> Future:
    """In a thread that nobody waits for when the program ends: it may have been stopped."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="image-search-decode", daemon=True).start()
    return future


_making_decoders = threading.Lock()


def _decoders() -> Decoders:
    """One process beside this one, that every picture asked with is decoded in."""
    with _making_decoders:
        return _only_decoders()


@cache
def _only_decoders() -> Decoders:
    decoders = Decoders(1, seconds=DECODE_SECONDS)
    atexit.register(decoders.close)
    return decoders


def weights_argument(model: models.EmbeddingModel, name: str, folder: Path) -> str:
    """Weights as a model takes them: a file beside the database by its whole path.

    The name is the database's, which may be a stranger's.
    """
    if not name or models.knows_weights(model, name):
        return name
    if may_name_a_server(name):
        raise ModelError(
            f"the database names weights that may be on another machine, {name!r}, and they are "
            "not looked for there: give 'embed' their file with --weights."
        )
    beside = os.path.join(folder, name)
    return beside if os.path.isfile(beside) else name
