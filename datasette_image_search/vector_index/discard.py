"""Removing a sidecar altogether."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .lock import hold
from .sidecar import journal_path


@contextmanager
def discarding(path: Path) -> Iterator[None]:
    """Delete a sidecar and its journal once what is done inside has succeeded.

    Raises :class:`Busy`, before anything is done, while somebody writes them.
    """
    with hold(path):
        yield
        path.unlink(missing_ok=True)
        journal_path(path).unlink(missing_ok=True)
