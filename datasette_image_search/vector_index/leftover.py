"""A sidecar that lies where a new collection's is to be: its table has gone from the catalog, or
the database has been made anew or put back as it was before.

An id names one picture for ever, so that its vectors are right for whoever has the same
pictures: they are gone on with. Those that the new collection has no use for are removed at its
end, as always; but where they are most, this was another's, whose database may come back.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from .aside import second_name
from .files import copy, journal_path
from .sidecar import SidecarWriter

ENDING = "-leftover"


class Leftover:
    """The file and its journal under a second name, until it is known what was of use.

    The vectors that it has are in ``index`` now, whose lock is held; ``known`` is the second name
    that an embed has given it which was interrupted, maybe between the two (``has_just_begun``).
    """

    def __init__(self, index: SidecarWriter, known: Path | None, has_just_begun: bool):
        self._index = index
        # Of the file alone: in the journal there may be what that embed has added.
        self._ids = np.array(index.refresh().base.ids)
        self.path = known or second_name(index.path, ENDING)
        journal, aside = journal_path(index.path), journal_path(self.path)
        if has_just_begun and journal.exists() and not aside.exists():
            copy(journal, aside)  # it is appended to, so that a second name would not do

    def settle(self) -> bool:
        """Remove it where ``index`` has kept most of its vectors; is it still there?"""
        if 2 * int(self._index.contains(self._ids).sum()) < len(self._ids):
            return True
        self.path.unlink(missing_ok=True)
        journal_path(self.path).unlink(missing_ok=True)
        return False


def _known(path: Path) -> Path | None:
    for other in path.parent.iterdir():
        if other.name.startswith(path.name) and other.name.endswith(ENDING):
            with suppress(FileNotFoundError):
                if other.samefile(path):
                    return other
    return None


def kept(index: SidecarWriter, has_just_begun: bool) -> Leftover | None:
    """What was there before a collection that has no rows yet, or whose first embed has been
    interrupted; None where nothing was finished.

    A journal alone is what its own first embed has left when it was killed.
    """
    if index.refresh().base is None or not len(index):
        return None
    known = _known(index.path)
    return Leftover(index, known, has_just_begun) if known or has_just_begun else None
