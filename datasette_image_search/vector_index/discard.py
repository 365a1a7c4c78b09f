"""Removing a sidecar altogether."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import journal_path, unlink_partials
from .lock import hold


@contextmanager
def discarding(path: Path) -> Iterator[None]:
    """Delete a sidecar and all that is its own once what is done inside has succeeded.

    Raises :class:`Busy`, before anything is done, while somebody writes them.
    """
    with hold(path):
        yield
        path.unlink(missing_ok=True)
        journal_path(path).unlink(missing_ok=True)
        unlink_partials(path)
