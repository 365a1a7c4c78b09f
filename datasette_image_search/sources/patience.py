"""Servers that are asked too often say so, and are asked again when they want to be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime

from ..errors import SourceError

MOST_SECONDS = 60  # a server that wants to be left alone for longer is not waited for
MOST_TRIES = 4  # more of one URL
# So many URLs, one after the other, that got nothing else: it is the server, not the URL.
MOST_URLS = 3
_FIRST_SECONDS = 1  # at least, and where it does not say how long; then twice as long, and so on


@dataclass
class _Server:
    until: float = 0  # not to be asked before, in time.monotonic()'s seconds
    rounds: int = 0  # how often it was asked at the time it wanted, and refused again
    failed: int = 0  # URLs that were given up since it last answered anything else
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

    def refused(self, server: str, status: str, retry_after: str | None, tries: int) -> None:
        """A URL there was answered ``status`` (429, say) and that header, so many times by now.

        Raises SourceError if this is enough.
        """
        with self._lock:
            known = self._servers.setdefault(server, _Server())
            now = time.monotonic()
            is_news = now >= known.until  # else it was asked before it had said so
            if is_news:
                known.rounds += 1
            pause = _FIRST_SECONDS * 2 ** min(known.rounds - 1, MOST_TRIES)
            seconds = max(pause, _seconds(retry_after))
            if seconds <= MOST_SECONDS and tries <= MOST_TRIES:
                known.until = max(known.until, now + seconds)
                if is_news:
                    self._told(f"waits {seconds:.0f} s for {server}, which answers {status}.")
                return
            wish = "goes on doing so"
            if seconds > MOST_SECONDS:
                wish = f"asks to be left alone for {seconds:,.0f} seconds"
            said = f"{server} answers {status} and {wish}: run embed again later."
            known.failed += 1
            if known.failed >= MOST_URLS:
                known.given_up = said
            raise SourceError(said)

    def answered(self, server: str) -> None:
        """It has answered something else: whatever it refuses next is a beginning."""
        with self._lock:
            known = self._servers.get(server)
            if known is not None:
                known.rounds = known.failed = 0

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closed.set()


def _seconds(retry_after: str | None) -> float:
    """A ``Retry-After`` header, in seconds or as a date (RFC 9110); 0 for anything else."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return moment.timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return 0
