"""Decoding in processes of their own: what crashes or hangs them costs one picture."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from ..errors import DecoderError, PictureError
from . import RESIZES, Geometry, Prepared
from . import worker as wire
from .opening import FORMATS, NEEDS_MEMORY
from .watch import Watch

_START_SECONDS = 60
_MOST_DECODERS = 16
_MOST_THUMBNAIL, _MOST_TEXT = 2**20, 2**10
_LONGEST_SIDE = 2**31 - 1
_FORMATS = frozenset(format.lower() for format in (*FORMATS, "MPO"))
# The path is the whole of ours: what can be imported here can be imported there.
_CODE = """
import sys
niceness, *sys.path[:] = sys.argv[1:]
from datasette_image_search.pictures.worker import main
main(int(niceness))
"""


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
        self._idle: list[_Decoder] = []
        self._all: set[_Decoder] = set()
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
                with contextlib.suppress(_Failed):
                    return self._ask_one(used, question)
            try:
                return self._ask_one(self._start(), question)
            except _Failed as failure:
                raise PictureError(str(failure)) from None

    def _start(self) -> _Decoder:
        with self._lock:
            if self._closed:
                raise _Failed("the decoders were closed.")
            decoder = _Decoder(self._niceness)
            self._all.add(decoder)
        self._watch.begin(decoder, _START_SECONDS)
        try:
            decoder.await_ready()
        except _Failed:
            self._drop(decoder)
            raise DecoderError(
                "the process that decodes pictures does not start: "
                "'python -m datasette_image_search.pictures.worker' may say why."
            ) from None
        finally:
            self._watch.end(decoder)
        return decoder

    def _ask_one(self, decoder: _Decoder, question):
        self._watch.begin(decoder, self._seconds)
        try:
            answer = question(decoder)
        except _Failed as failure:
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

    def _keep(self, decoder: _Decoder) -> None:
        self._watch.end(decoder)
        with self._lock:
            if not self._closed:
                self._idle.append(decoder)
                return
        self._drop(decoder)

    def _drop(self, decoder: _Decoder) -> None:
        with self._lock:
            self._all.discard(decoder)
        decoder.end()


class _Failed(Exception):
    """A decoder gave no answer that counts; the sentence says what is to blame."""


class _Decoder:
    """One process, asked by one thread at a time."""

    def __init__(self, niceness: int):
        if not sys.executable or getattr(sys, "frozen", False):
            raise DecoderError("there is no Python interpreter to decode pictures with.")
        paths = [path for path in sys.path if isinstance(path, str)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", _CODE, str(niceness), *paths],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                # Ctrl-C is for us: what the decoders do then is ours to say.
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise DecoderError(
                f"the process that decodes pictures cannot be started: {error.strerror}."
            ) from None
        _widen(self._process.stdin, self._process.stdout)

    def await_ready(self) -> None:
        if self._receive(len(wire.READY)) != wire.READY:
            raise self._nonsense()

    def prepare(
        self, data, size: int, resize: int, thumbnail: bool, seconds: float, seen=None
    ) -> Prepared:
        self._send(wire.PREPARE, seconds, data, size, resize, thumbnail)
        width, height, _ = self._answer(wire.PREPARED)
        pixels = np.empty((size, size, 3), np.uint8)
        self._receive_into(memoryview(pixels).cast("B"))
        if seen:
            seen(pixels)
        return Prepared(width, height, pixels, self._thumbnail() if thumbnail else None)

    def _thumbnail(self) -> bytes:
        _, _, length = self._answer(wire.THUMBNAIL)
        if length > _MOST_THUMBNAIL:
            raise self._nonsense()
        small = self._receive(length)
        if not small.startswith(b"\xff\xd8\xff"):
            raise self._nonsense()
        return small

    def read_header(self, path: bytes, seconds: float) -> tuple[str, int, int]:
        self._send(wire.HEADER, seconds, path)
        width, height, length = self._answer(wire.HEADED)
        format = self._text(length)
        if format not in _FORMATS:
            raise self._nonsense()
        return format, width, height

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int:
        """Kill it, if it has not ended by itself; how it ended (as Popen's returncode)."""
        self._process.kill()
        self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait()

    # -- the wire -----------------------------------------------------------------

    def _send(self, kind: int, seconds: float, payload, size=0, resize=0, thumbnail=False) -> None:
        until = min(2**16 - 1, 2 * int(seconds) + 1)
        head = wire.REQUEST.pack(kind, until, size, resize, thumbnail, len(payload))
        try:
            for part in (head, payload):
                left = memoryview(part)
                while left:
                    left = left[self._process.stdin.write(left) :]
        except (OSError, ValueError):  # a broken pipe, or one that was closed
            raise self._failed() from None

    def _answer(self, expected: int) -> tuple[int, int, int]:
        """Two numbers and the length of what follows; or a refusal is raised."""
        kind, width, height, length = wire.ANSWER.unpack(self._receive(wire.ANSWER.size))
        if kind == wire.REFUSED:
            reason = self._text(length)
            if reason == NEEDS_MEMORY:
                raise _Failed(reason)
            raise PictureError(reason)
        least, most = (0, 0) if expected == wire.THUMBNAIL else (1, _LONGEST_SIDE)
        if kind != expected or not all(least <= side <= most for side in (width, height)):
            raise self._nonsense()
        return width, height, length

    def _text(self, length: int) -> str:
        if not 0 < length <= _MOST_TEXT:
            raise self._nonsense()
        text = self._receive(length).decode(errors="replace")
        if not text.isprintable():
            raise self._nonsense()
        return text

    def _receive(self, length: int) -> bytes:
        received = bytearray(length)
        self._receive_into(memoryview(received))
        return bytes(received)

    def _receive_into(self, left: memoryview) -> None:
        try:
            while left:
                count = self._process.stdout.readinto(left)
                if not count:
                    raise self._failed()
                left = left[count:]
        except (OSError, ValueError):
            raise self._failed() from None

    def _failed(self) -> _Failed:
        """It closed its pipes: it ends, or has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        if self.end() == -getattr(signal, "SIGKILL", 9):
            return _Failed("the picture's decoder was killed: maybe memory ran out.")
        return _Failed("the picture crashed its decoder.")

    def _nonsense(self) -> _Failed:
        # Ours does not say such things: something in the picture speaks for it.
        return _Failed("the picture crashed its decoder.")


def _widen(*pipes) -> None:
    """Where the system lets us (Linux), a picture goes through a pipe in one piece."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        for pipe in pipes:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 2**20)
