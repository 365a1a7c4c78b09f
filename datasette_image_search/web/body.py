"""A request's body, piece by piece: within a size, within a time, in memory that all share."""

from __future__ import annotations

import asyncio
import threading
import time

from ..errors import Busy, TooLarge, TooSlow, UsageError
from .settings import Settings, megabytes

# What the pictures of all visitors may take while they arrive and wait, in bytes.
MOST_HELD = 160_000_000

# Around a picture: boundaries, headers and small fields of a form.
_FRAMING = 64 * 1024


class Body:
    """The body of one request, read no further than a picture of ``limit`` bytes may reach.

    All of it must be here within ``limits.upload_timeout``: one that sends a byte now and
    then would otherwise keep us for ever.
    """

    def __init__(self, request, limits: Settings):
        self.limit = limits.max_upload_bytes
        self.content_type = request.headers.get("content-type")
        self._request = request
        self._most = self.limit + _FRAMING
        self._seconds = limits.upload_timeout
        self._until = time.monotonic() + self._seconds
        self._ended = False

    async def pieces(self):
        """Raises :class:`TooLarge` as soon as too much is announced or seen."""
        announced = self._request.headers.get("content-length", "")
        if announced.isascii() and announced.isdecimal():
            announced = announced.lstrip("0")
            if len(announced) > 18 or int(announced or 0) > self._most:
                raise too_large(self.limit)
        seen = 0
        while not self._ended:
            piece = await self._next()
            seen += len(piece)
            if seen > self._most:
                raise too_large(self.limit)
            yield piece

    async def drop_the_rest(self) -> None:
        """Let the sender finish, within reason: a browser that is cut off while it sends
        shows its own error page and not ours."""
        left = 4 * self._most
        try:
            while not self._ended and left > 0:
                left -= len(await self._next())
        except (TooSlow, UsageError):
            return

    async def _next(self) -> bytes:
        left = self._until - time.monotonic()
        try:
            message = await asyncio.wait_for(self._request.receive(), max(0, left))
        except (asyncio.TimeoutError, TimeoutError):  # two classes until Python 3.11
            self._ended = True
            raise TooSlow(
                f"The picture was not here within {self._seconds:,} seconds: "
                "try again with a smaller one, or where the connection is faster."
            ) from None
        if message["type"] != "http.request":
            self._ended = True
            raise UsageError("The connection closed before the whole picture was here.")
        self._ended = not message.get("more_body", False)
        return message.get("body", b"")


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"The picture is larger than {megabytes(limit)}, the most this server takes.")


class Memory:
    """Bytes that the requests of a process hold together, ``most`` of them."""

    def __init__(self, most: int):
        self.most = most
        self.held = 0
        self._lock = threading.Lock()  # a process may have several event loops

    def share(self, limit: int) -> Share:
        """One request's share; where ``limit`` is more than there is, one at a time."""
        return Share(self, limit)

    def take(self, count: int, limit: int) -> None:
        with self._lock:
            if self.held + count > max(self.most, limit):
                raise Busy("Too many pictures are arriving at once: try again in a moment.")
            self.held += count

    def give_back(self, count: int) -> None:
        with self._lock:
            self.held -= count


class Share:
    """A context manager: what was taken within is given back at its end."""

    def __init__(self, memory: Memory, limit: int):
        self._memory = memory
        self._limit = limit
        self._taken = 0

    def take(self, count: int) -> None:
        """Raises :class:`Busy` where others hold too much."""
        self._memory.take(count, self._limit)
        self._taken += count

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *error) -> None:
        self._memory.give_back(self._taken)
        self._taken = 0


memory = Memory(MOST_HELD)
