"""Removing a sidecar altogether."""

from __future__ import annotations

from pathlib import Path

from .lock import hold
from .sidecar import journal_path


def discard(path: Path) -> None:
    """Delete a sidecar and its journal; raises :class:`Busy` while somebody writes them."""
    with hold(path):
        path.unlink(missing_ok=True)
        journal_path(path).unlink(missing_ok=True)
