"""A sidecar's files: their names, and how a new one takes the place of an old one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import SidecarError, SidecarMissing

# What is said by file systems that make no folder durable (SMB, some of FUSE), or of a
# folder that may be written and not read.
_NO_FOLDER_SYNC = {
    errno.EACCES,
    errno.EBADF,
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
}


class Unsettled(SidecarError):
    """The new file is in its place; a power failure may yet bring back the one before."""

    def __init__(self, path: Path, error: OSError):
        super().__init__(
            f"{path} has been written, but may not outlast a power failure: {_reason(error)}."
        )
        self.path = path


def journal_path(path: Path) -> Path:
    return path.with_name(path.name + "-journal")


def _partial_path(path: Path) -> Path:
    return path.with_name(path.name + "-partial")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, open, that takes the place of ``path`` once all of it is on disk.

    Raises :class:`SidecarError` where it cannot be written; ``path`` is then as before,
    unless it is :class:`Unsettled`.
    """
    partial = _partial_path(path)
    try:
        with open(partial, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):  # the next writer removes it
            partial.unlink()
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise Unsettled(path, error) from error


def copy(source: Path, target: Path) -> None:
    """Put a copy of one file in another's place, as :func:`replacing` does."""
    with open(source, "rb") as old, replacing(target) as new:
        shutil.copyfileobj(old, new)


def unlink_partials(path: Path) -> None:
    """Remove what a killed writer of the sidecar at ``path`` has left; for who has its lock."""
    for file in (path, journal_path(path)):
        _partial_path(file).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable, where the system can (Windows cannot).

    Raises OSError where it can and fails.
    """
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def missing(path: Path) -> SidecarMissing:
    return SidecarMissing(
        f"{path.name} is missing beside the database: put it back, or run "
        "'datasette image-search embed' on the collection again."
    )


def cannot_write(path: Path, error: OSError) -> SidecarError:
    """What the system says about a write, as a sentence that names the file."""
    return SidecarError(f"{path} cannot be written: {_reason(error)}.")


def cannot_read(path: Path, error: OSError) -> SidecarError:
    """The same about reading, for visitors of a server too: without the folder."""
    return SidecarError(f"{path.name} cannot be read: {_reason(error)}.")


def _reason(error: OSError) -> str:
    reason = error.strerror or "the system refuses"
    return f"{reason[:1].lower()}{reason[1:]}"
