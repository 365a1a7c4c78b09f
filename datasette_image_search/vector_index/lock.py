"""One process at a time may change a sidecar, and the others are told who it is."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

from ..errors import Busy


def hold(path: Path) -> AcquireReturnProxy:
    """Take the lock of the sidecar at ``path``: for ``with``, or by its ``lock`` to release.

    Raises :class:`Busy`, with the number of the process that has it.
    """
    file = path.with_name(path.name + "-lock")
    lock = FileLock(file, timeout=0)
    try:
        held = lock.acquire()
    except Timeout:
        raise Busy(
            f"{path.name} is being written by {_holder(file)}: wait until it has finished."
        ) from None
    file.write_text(str(os.getpid()))
    return held


def _holder(file: Path) -> str:
    try:
        return f"process {int(file.read_text())}"
    except (OSError, ValueError):
        return "another process"
