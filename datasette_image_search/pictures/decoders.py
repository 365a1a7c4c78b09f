"""Decoding in processes of their own: what crashes or hangs them costs one picture."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from ..errors import DecoderError, PictureError
from . import RESIZES, Geometry, Prepared
from .decoder import Decoder, Failed
from .watch import Watch

_START_SECONDS = 60
_MOST_DECODERS = 16


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Decoders:
    """Decodes pictures in other processes, ``most`` at a time. A context manager.

    Resembles a process pool, but believes nothing that the processes say: they decode
    what strangers made. Each picture has so many ``seconds`` and 1.5 GB of memory (as far
    as the system can bound it), and where it takes more or crashes the decoder, that is
    a :class:`PictureError` of its own, and a new process takes the next picture.

    May be asked from many threads. Processes are started when they are needed, and leave
    the processors to others as far as ``niceness`` says (where there is such a thing).
    """

    def __init__(self, most: int | None = None, *, seconds: float = 30, niceness: int = 0):
        self.most = most or min(_MOST_DECODERS, max(2, processors()))
        self._seconds = seconds
        self._niceness = niceness
        self._places = threading.BoundedSemaphore(self.most)
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._all: set[Decoder] = set()
        self._watch = Watch()
        self._closed = False

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def prepare(
        self, data: bytes, geometry: Geometry, *, thumbnail: bool = True, seen=None
    ) -> Prepared:
        """As :func:`pictures.prepare`: decode once, for a model and for a thumbnail.

        ``seen`` is called with the pixels while the thumbnail is being made; with those of
        another try, where the decoder crashes meanwhile. It must not raise, nor take long.
        """
        how = (geometry.size, RESIZES.index(geometry.resize), thumbnail)
        return self._ask(lambda decoder: decoder.prepare(data, *how, self._seconds, seen))

    def read_header(self, path) -> tuple[str, int, int]:
        """As :func:`pictures.read_header`: (format, width, height) of a picture file."""
        name = os.fsencode(Path(path).resolve())
        return self._ask(lambda decoder: decoder.read_header(name, self._seconds))

    def close(self) -> None:
        """End the processes, at work or not."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for decoder in self._all:
                decoder.kill()
        for decoder in idle:
            self._drop(decoder)  # one at work is dropped by the thread that waits for it
        self._watch.close()

    def _ask(self, question):
        with self._places:
            with self._lock:
                used = self._idle.pop() if self._idle else None
            if used is not None:
                # Where it fails, what it decoded before may be to blame: a fresh one decides.
                with contextlib.suppress(Failed):
                    return self._ask_one(used, question)
            try:
                return self._ask_one(self._start(), question)
            except Failed as failure:
                raise PictureError(str(failure)) from None

    def _start(self) -> Decoder:
        with self._lock:
            if self._closed:
                raise Failed("the decoders were closed.")
            decoder = Decoder(self._niceness)
            self._all.add(decoder)
        self._watch.begin(decoder, _START_SECONDS)
        try:
            decoder.await_ready()
        except Failed:
            self._drop(decoder)
            raise DecoderError(
                "the process that decodes pictures does not start: "
                "'python -m datasette_image_search.pictures.worker' may say why."
            ) from None
        finally:
            self._watch.end(decoder)
        return decoder

    def _ask_one(self, decoder: Decoder, question):
        self._watch.begin(decoder, self._seconds)
        try:
            answer = question(decoder)
        except Failed as failure:
            late = self._watch.end(decoder)
            self._drop(decoder)
            if late:
                # Not once more: another would take as long.
                raise PictureError(
                    f"the picture took longer than {self._seconds:g} seconds to decode."
                ) from None
            raise failure
        except PictureError:
            self._keep(decoder)
            raise
        self._keep(decoder)
        return answer

    def _keep(self, decoder: Decoder) -> None:
        self._watch.end(decoder)
        with self._lock:
            if not self._closed:
                self._idle.append(decoder)
                return
        self._drop(decoder)

    def _drop(self, decoder: Decoder) -> None:
        with self._lock:
            self._all.discard(decoder)
        decoder.end()
