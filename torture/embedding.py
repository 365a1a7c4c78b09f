"""An embed in a process of its own that says how far it has come.

The process is forked from one that has imported everything: it starts at once, and what
is killed is its work.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress
from itertools import count
from pathlib import Path

from .processes import MARK, family
from .shop import TABLE

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["torture.preloaded"])
_numbers = count(1)


class Embedding:
    """A running embed. ``taken`` is how many rows it had taken up, once it has ended;
    ``processes`` how many it and its decoders were then."""

    def __init__(self, database: Path, **options):
        self._said, writing = FORKED.Pipe(duplex=False)
        self.mark = f"embed-{next(_numbers)}-{os.getpid()}"
        self.process = FORKED.Process(target=_embed, args=(database, options, writing, self.mark))
        self.process.start()
        writing.close()
        self.taken = self.processes = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for_start(self) -> None:
        """Until the rows to be embedded have been counted."""
        os.read(self._said.fileno(), 1)

    def wait_for(self, rows: int) -> None:
        """Until so many rows have been taken up, or it has ended."""
        while self.taken < rows and (said := os.read(self._said.fileno(), rows)):
            self.taken += said.count(b".")

    def end(self, seconds: float, kill: bool, group: bool = False) -> int:
        """Wait so long, then ``kill`` it (with its ``group``); the exit code."""
        self.process.join(seconds)
        if seconds:  # else there is no time to look
            self.processes = len(family(self.pid, self.mark))
        if kill and self.process.exitcode is None:
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)
        self.process.join()
        while said := os.read(self._said.fileno(), 65536):
            self.taken += said.count(b".")
        self._said.close()
        return self.process.exitcode


class _Told:
    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def tell(self, sentence: str) -> None: ...

    def start(self, total: int) -> None:
        os.write(self._descriptor, b"s")

    def advance(self, rows: int) -> None:
        os.write(self._descriptor, b"." * rows)


def _embed(database: Path, options: dict, writing, mark: str) -> None:
    from datasette_image_search.collection import EmbedOptions, embed

    os.environ[MARK] = mark
    os.setsid()
    embed(database, TABLE, EmbedOptions(**options), progress=_Told(writing.fileno()))
