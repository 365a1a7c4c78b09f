"""A sidecar for another database, which goes on with what this one has."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .files import cannot_read, journal_path, replacing
from .lock import hold


@contextmanager
def copying(old: Path, new: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of ``new``; what this gives, called, makes ``new`` a copy of ``old``.

    So one can see first, while nobody else writes ``new``, whether that is still wanted.
    ``old`` may be written meanwhile. Raises :class:`Busy` where ``new`` is being written,
    and copying :class:`SidecarError` where a file cannot be.
    """
    with hold(new):
        yield lambda: _copy(old, new)


def _copy(old: Path, new: Path) -> None:
    # Read as a reader does, the journal first: a writer may turn it into a new base.
    # Put in place the other way round, the base first: at any moment there is an index.
    with ExitStack() as in_place:
        for source, target in ((journal_path(old), journal_path(new)), (old, new)):
            try:
                file = in_place.enter_context(open(source, "rb"))
            except FileNotFoundError:
                in_place.callback(target.unlink, missing_ok=True)
            except OSError as error:
                raise cannot_read(source, error) from error
            else:
                shutil.copyfileobj(file, in_place.enter_context(replacing(target)))
        # One that another sidecar of this name has left continues no copy.
        journal_path(new).unlink(missing_ok=True)
