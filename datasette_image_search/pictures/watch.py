"""A limit on how long a decoder may take, kept by a thread of its own."""

from __future__ import annotations

import threading
import time

from .decoder import Decoder


class Watch:
    """Kills those that take too long: one thread, that sleeps until one may be due."""

    def __init__(self):
        self._due: dict[Decoder, float] = {}
        self._changed = threading.Condition()
        self._wakes = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, decoder: Decoder, seconds: float) -> None:
        with self._changed:
            due = self._due[decoder] = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="image-search-watch", daemon=True
                )
                self._thread.start()
            elif due < self._wakes:
                self._changed.notify()

    def end(self, decoder: Decoder) -> bool:
        """Was it too late, and has it been killed?"""
        with self._changed:
            return self._due.pop(decoder, None) is None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for decoder in [one for one, due in self._due.items() if due <= now]:
                    del self._due[decoder]
                    decoder.kill()
                self._wakes = min(self._due.values(), default=float("inf"))
                self._changed.wait(self._wakes - now if self._due else None)
