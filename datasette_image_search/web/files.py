"""When has a database's file changed? What was looked up in it is kept until then."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from weakref import WeakKeyDictionary

# Of a file that has changed less than so many seconds ago, the next change may leave the
# same time behind: clocks of file systems tick slowly.
_SETTLED_SECONDS = 2


# A journal and a log are beside the file, not beside a link to it. Datasette keeps its
# connections to what the link led to when it began, so that is asked once.
real = lru_cache(os.path.realpath)


def state(path) -> tuple | None:
    """What is another when a file has been written to; None of no file (in memory)."""
    try:
        found = os.stat(path)
    except (OSError, TypeError):
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def state_with_log(path) -> tuple | None:
    """The same of a database with the log beside it, which is written to first."""
    file = state(path)
    return file and (file, state(f"{real(path)}-wal"))


def _changed_at(state: tuple) -> float:
    """When (seconds since 1970) the last change was, of :func:`state_with_log`."""
    return max(part[2] for part in state if part) / 1e9


class UntilChanged:
    """Something that is looked up in databases, each time their file has changed."""

    def __init__(self):
        self._known: WeakKeyDictionary = WeakKeyDictionary()

    async def get(self, db, look_up: Callable[[], Awaitable]):
        """What ``look_up`` gives of Datasette's ``db``, or gave since the file last changed."""
        began = time.time()
        state = state_with_log(db.path)
        before, found = self._known.get(db, (None, None))
        if state is None or before != state:
            found = await look_up()
            if state is not None and _changed_at(state) < began - _SETTLED_SECONDS:
                self._known[db] = (state, found)
        return found
