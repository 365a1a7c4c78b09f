"""Servers that are asked too often say so, and are asked again when they want to be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime

from ..errors import SourceError

MOST_SECONDS = 60  # a server that wants to be left alone for longer is left for this run
MOST_ROUNDS = 5  # in which it answers nothing else
_FIRST_SECONDS = 1  # where it does not say how long; then twice as long, and so on


@dataclass
class _Server:
    until: float = 0  # not to be asked before, in time.monotonic()'s seconds
    rounds: int = 0  # how often it was asked at the time it wanted, and refused again
    given_up: str | None = None


class Patience:
    """What servers have said of being asked too often, for all threads of a run.

    ``told`` is given a sentence's end whenever one is waited for: "waits …".
    """

    def __init__(self, told: Callable[[str], None] = lambda sentence: None):
        self._told = told
        self._servers: dict[str, _Server] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def wait(self, server: str) -> bool:
        """Until ``server`` wants to be asked: was there anything to wait for?

        Raises SourceError if it will not be asked again in this run.
        """
        waited = False
        while True:
            with self._lock:
                known = self._servers.get(server)
                if known is None:
                    return waited
                if known.given_up:
                    raise SourceError(known.given_up)
                seconds = known.until - time.monotonic()
            if seconds <= 0:
                return waited
            waited = True
            if self._closed.wait(seconds):
                raise SourceError(f"{server} was not asked: embed was stopped.")

    def refused(self, server: str, status: str, retry_after: str | None) -> None:
        """It answered ``status`` (429, say) with that header: SourceError if this is enough."""
        with self._lock:
            known = self._servers.setdefault(server, _Server())
            now = time.monotonic()
            is_news = now >= known.until  # else it was asked before it had said so
            if is_news:
                known.rounds += 1
            seconds = _seconds(retry_after)
            if seconds is None:
                seconds = _FIRST_SECONDS * 2 ** (known.rounds - 1)
            known.until = max(known.until, now + seconds)
            if seconds > MOST_SECONDS:
                wish = f"asks to be left alone for {seconds:,.0f} seconds"
            elif known.rounds > MOST_ROUNDS:
                wish = "goes on doing so"
            else:
                if is_news and seconds > 0:
                    self._told(f"waits {seconds:.0f} s for {server}, which answers {status}.")
                return
            known.given_up = f"{server} answers {status} and {wish}: run embed again later."
            raise SourceError(known.given_up)

    def answered(self, server: str) -> None:
        """It has answered something else: whatever it refuses next is a beginning."""
        with self._lock:
            known = self._servers.get(server)
            if known is not None:
                known.rounds = 0

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closed.set()


def _seconds(retry_after: str | None) -> float | None:
    """A ``Retry-After`` header, in seconds or as a date (RFC 9110); None for anything else."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, moment.timestamp() - time.time())
