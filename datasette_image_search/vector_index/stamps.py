"""What tells one state of a file from another, and which states are known to be of no use."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ..errors import SidecarDamaged, SidecarError, SidecarMismatch
from .files import cannot_read
from .identity import Identity

# A file may be written on in the moment that its time is taken, and look as before.
SETTLED_NS = 2 * 10**9
_MOST = 64


def stamp(path: str) -> tuple | None:
    """Inode, size, time of change, and the time that no copying program sets."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot_read(Path(path), error) from error
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Refused:
    """Sidecars that this process has read and found wrong: a server is asked for them with each
    request, and would read up to 100 MB again to say the same."""

    def __init__(self):
        self._known: dict[tuple, tuple[tuple, SidecarError]] = {}

    def check(self, path: Path, identity: Identity, stamps: tuple) -> None:
        """Raise what was raised of these files, if they are as they were then."""
        seen, error = self._known.get((path, identity), ((), None))
        if error is not None and seen == stamps:
            raise type(error)(*error.args)

    def remember(self, path: Path, identity: Identity, stamps: tuple, error: SidecarError) -> None:
        """``stamps`` are those of before the files were read, and of after it."""
        if not isinstance(error, (SidecarDamaged, SidecarMismatch)):
            return
        newest = max(max(found[2:]) for found in stamps if found)
        if time.time_ns() - newest > SETTLED_NS:
            self._known.pop((path, identity), None)
            self._known[path, identity] = (stamps, error)
            if len(self._known) > _MOST:
                self._known.pop(next(iter(self._known)), None)


refused = Refused()
