"""One process at a time may change a sidecar, and the others are told who it is."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

from ..errors import Busy
from .files import cannot_write

# Of the lock file filelock locks the first byte, and on Windows nobody may write or read
# what is locked, not even its owner through another handle: the number comes after it.
_LOCKED = 1


def hold(path: Path) -> AcquireReturnProxy:
    """Take the lock of the sidecar at ``path``: for ``with``, or by its ``lock`` to release.

    Raises :class:`Busy`, with the number of the process that has it, and :class:`SidecarError`
    where the folder cannot be written.
    """
    file = path.with_name(path.name + "-lock")
    lock = FileLock(file, timeout=0)
    try:
        held = lock.acquire()
    except Timeout:
        raise Busy(
            f"{path.name} is being written by {_holder(file)}: wait until it has finished."
        ) from None
    except OSError as error:
        raise cannot_write(file, error) from error
    with open(file, "r+b") as lock_file:
        lock_file.seek(_LOCKED)
        lock_file.write(b"%d\n" % os.getpid())
    return held


def _holder(file: Path) -> str:
    try:
        with open(file, "rb") as lock:
            lock.seek(_LOCKED)
            return f"process {int(lock.readline())}"
    except (OSError, ValueError):
        return "another process"
