"""When has a database's file changed? What was looked up in it is kept until then."""

from __future__ import annotations

import os


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
    return file and (file, state(f"{path}-wal"))


def changed_at(state: tuple) -> float:
    """When (seconds since 1970) the last change was, of :func:`state_with_log`."""
    return max(part[2] for part in state if part) / 1e9
