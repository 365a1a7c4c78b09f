"""One answer for all who ask the same at the same time.

A page's thumbnails are fetched by the dozen at once, and each of them asks whether the
visitor may see the table; on Datasette 1.0 that took as long as all the rest. Nobody is
told what was true before: an answer is shared by those only who asked before it was begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context

from . import versions, visit

# How long one waits for an answer begun before: it may be waiting for a service that is down.
_PATIENCE = 1.0  # seconds


class Together:
    """Questions that are being answered, and those that will be next."""

    def __init__(self):
        self._next: dict = {}
        self._under_way: dict = {}

    async def ask(self, question, find: Callable[[], Awaitable]):
        """What ``find()`` gives, begun after this call.

        ``question`` is a hashable key: those who ask with the same one, and would find
        the same context variables, are given one answer.
        """
        key = (asyncio.get_running_loop(), question, _surroundings())
        answer = self._next.get(key)
        if answer is None or answer.done():
            answer = self._next[key] = asyncio.create_task(self._find(key, find))
            answer.add_done_callback(_take_note)
        # One who leaves does not take the others' answer along.
        return await asyncio.shield(answer)

    async def _find(self, key, find: Callable[[], Awaitable]):
        before = self._under_way.get(key)
        if before is not None:
            await asyncio.wait([before], timeout=_PATIENCE)
        me = self._under_way[key] = self._next.pop(key)  # who asks from here on comes next
        try:
            return await find()
        finally:
            if self._under_way.get(key) is me:
                del self._under_way[key]


def _take_note(answer: asyncio.Task) -> None:
    """Its error is no surprise to asyncio, should all who asked have left."""
    if not answer.cancelled():
        answer.exception()


def _surroundings() -> frozenset:
    """What context variables hold, but for those that are each request's own.

    Permission checks can be switched off by one, and a plugin's may look at another.
    """
    return frozenset(
        (variable, id(value))
        for variable, value in copy_context().items()
        if not visit.is_own(variable) and not versions.is_of_one_request(variable, value)
    )
