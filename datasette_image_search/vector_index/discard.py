"""Removing a sidecar altogether."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import Busy
from .sidecar import journal_path, lock_path


def discard(path: Path) -> None:
    """Delete a sidecar and its journal; raises :class:`Busy` while somebody writes them."""
    try:
        with FileLock(lock_path(path), timeout=0):
            path.unlink(missing_ok=True)
            journal_path(path).unlink(missing_ok=True)
    except Timeout:
        raise Busy(f"{path.name} is being written: wait until that has finished.") from None
