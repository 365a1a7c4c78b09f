"""One process that decodes (:mod:`.worker`), and what it is asked and believed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import numpy as np

from ..errors import DecoderError, PictureError
from . import Prepared
from . import worker as wire
from .opening import FORMATS, NEEDS_MEMORY

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


class Failed(Exception):
    """A decoder gave no answer that counts; the sentence says what is to blame."""


class Decoder:
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
                raise Failed(reason)
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

    def _failed(self) -> Failed:
        """It closed its pipes: it ends, or has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        if self.end() == -getattr(signal, "SIGKILL", 9):
            return Failed("the picture's decoder was killed: maybe memory ran out.")
        return Failed("the picture crashed its decoder.")

    def _nonsense(self) -> Failed:
        # Ours does not say such things: something in the picture speaks for it.
        return Failed("the picture crashed its decoder.")


def _widen(*pipes) -> None:
    """Where the system lets us (Linux), a picture goes through a pipe in one piece."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        for pipe in pipes:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 2**20)
