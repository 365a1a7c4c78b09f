"""Files below one folder, and none outside it, wherever links and dots may lead."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from unicodedata import normalize

from ..errors import SourceError
from ..wording import shortened
from . import fetched
from .fetched import Fetched, quoted
from .hints import likely_cause, names_in

# A FIFO put in a file's place does not keep us waiting, nor is a link there followed.
_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOFOLLOW", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)
# A folder on the way need not be readable to be passed through, where the system knows that.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | _FLAGS


def may_name_a_server(path: str) -> bool:
    """Is it a network path to Windows, which logs in at its server merely to look for a file?"""
    return path.replace("\\", "/").startswith(("//", "/??/"))


class Folder:
    """Reads the files below ``root``, by the paths of a column: ``paths`` gives all of them."""

    def __init__(self, root: Path, paths: Callable[[], Iterable] = tuple):
        self.root = Path(os.path.realpath(root))
        self._root = str(self.root)
        # By this it is called where it is said why a row failed: that is written down, in a
        # database that may be published, and where it lay on this machine concerns nobody.
        self._name = self.root.name or self._root
        self._inside = os.path.normcase(os.path.join(self._root, ""))  # with a / at its end
        self._remembered = lru_cache(4096)(os.path.realpath)
        self._names_in = lru_cache(8)(names_in)
        self._paths = paths
        self._named: set[int] | None = None
        self._naming = threading.Lock()

    def path(self, value: str) -> Path:
        """The file that ``value`` names now; raises :class:`SourceError` outside the root."""
        return Path(self._resolve(value, os.path.realpath))

    def fingerprint(self, value: str) -> str | None:
        """The file's fingerprint, or None where there is no file to be read.

        Made for going through a million rows: each folder is resolved once. One that
        becomes a link during a run may be missed here, where no byte of a file is read;
        :meth:`read` looks anew.
        """
        for spelled in chain((value,), self._other_names(value)):
            with suppress(OSError, SourceError):
                return _fingerprint(os.stat(self._resolve(spelled, self._remembered)))
        return None

    def read(self, value: str, known: str | None = None) -> Fetched:
        """The file's bytes, unless its fingerprint is still ``known``."""
        name = quoted(value)
        try:
            with suppress(FileNotFoundError):
                return self._read(self.path(value), name, known)
            for spelled in self._other_names(value):
                with suppress(FileNotFoundError):
                    return self._read(self.path(spelled), name, known)
            raise self._not_there(value)
        except PermissionError:
            raise SourceError(f"{name} may not be read.") from None
        except OSError as error:
            if cause := likely_cause(value):  # too long for a name, say
                raise SourceError(cause) from None
            reason = (error.strerror or "the system refuses").lower()
            raise SourceError(f"{name} cannot be read: {reason}.") from None

    def _other_names(self, value: str) -> Iterator[str]:
        """Other spellings of ``value`` that are there, save those that are another row's own:
        with its own file gone, a row would be given the picture of that one."""
        for spelled in _other_spellings(value):
            if self._is_there(spelled) and not self._is_named(spelled):
                yield spelled

    def _is_there(self, value: str) -> bool:
        with suppress(OSError, SourceError):
            return stat.S_ISREG(os.stat(self._resolve(value, self._remembered)).st_mode)
        return False

    def _is_named(self, value: str) -> bool:
        """Does a row name this file exactly? Asked seldom: the first time goes through all rows,
        and keeps a number of each, as a million paths would take much memory."""
        with self._naming:
            if self._named is None:
                self._named = {hash(self._plain(path)) for path in self._paths()}
            return hash(self._plain(value)) in self._named

    def _plain(self, value: str) -> str:
        return os.path.normpath(os.path.join(self._root, value))

    def _read(self, path: Path, name: str, known: str | None) -> Fetched:
        found = os.stat(path)
        _refuse_others(found, name)  # before it is opened: some devices act on that
        if _fingerprint(found) == known:
            return Fetched(None, known)
        with open(path, "rb", opener=self._open) as file:
            return _read(file, name)

    def _open(self, path: str, _: int) -> int:
        """Open a resolved path step by step from the root, following no link.

        There was none when it was resolved; one put there since is not gone through.
        Where the system cannot do that (Windows), the last step alone is guarded.
        """
        steps = Path(path).relative_to(self.root).parts
        if os.open not in os.supports_dir_fd or not steps:
            return os.open(path, _FLAGS)
        folder = os.open(self.root, _PASS & ~os.O_NOFOLLOW)
        try:
            for step in steps[:-1]:
                below = os.open(step, _PASS, dir_fd=folder)
                os.close(folder)
                folder = below
            return os.open(steps[-1], _FLAGS, dir_fd=folder)
        finally:
            os.close(folder)

    def _resolve(self, value: str, resolve) -> str:
        """Folders are resolved by ``resolve``, files only where they are links themselves.

        Text rather than ``Path``, which takes ten times as long: this is all that a run
        does with the rows that have not changed.
        """
        if "\0" in value or "://" in value:
            raise SourceError(
                likely_cause(value)
                or f"{quoted(value)} is not a path, and only http and https URLs are read."
            )
        try:
            os.fsencode(value)
        except UnicodeError:
            raise SourceError(f"{quoted(value)} cannot be the name of a file.") from None
        path = os.path.join(self._root, value)
        if may_name_a_server(value) and not self._has(path):
            raise self._outside(value)
        folder, name = os.path.split(path)
        real = os.path.join(resolve(folder), name)
        if name in ("", ".", "..") or os.path.islink(real):
            real = os.path.realpath(path)
        if not self._has(real):
            raise self._outside(value)
        return real

    def _has(self, path: str) -> bool:
        """Does ``path``, without links and dots, lie in the folder (or is it the folder)?"""
        return os.path.normcase(os.path.join(path, "")).startswith(self._inside)

    def _outside(self, value: str) -> SourceError:
        name, path = quoted(value), os.path.join(self._root, value)
        if self._has(os.path.normpath(path)):  # as it is written it would be inside
            what = "is a link" if os.path.islink(path) else "lies in a linked folder"
            return SourceError(
                f"{name} {what} that leads outside the folder {self._name}: "
                "put the file itself there."
            )
        inside = value.strip().lstrip("/")
        if inside != value.strip() and self._is_there(inside):  # as a page writes its addresses
            return SourceError(
                f"{name} begins with a slash and so lies outside the folder {self._name}, where "
                f"{quoted(inside)} is: leave the slash out."
            )
        return SourceError(likely_cause(value) or f"{name} lies outside the folder {self._name}.")

    def _not_there(self, value: str) -> SourceError:
        said = f"{quoted(value)} is not in the folder {self._name}"
        for spelled in filter(self._is_there, _other_spellings(value)):
            # As ASCII, where an accent that stands for itself is seen.
            return SourceError(
                f"{said}, but {shortened(spelled)!a} is, which another row names: "
                "write it in the same way if it is this row's picture too."
            )
        if other := self._in_other_letters(value):
            return SourceError(f"{said}, but {quoted(other)} is: write it with the same capitals.")
        return SourceError(likely_cause(value) or f"{said}.")

    def _in_other_letters(self, value: str) -> str | None:
        """The file that ``value`` would name, were capitals all the same."""
        place, found = self._root, []
        for step in value.strip().replace("\\", "/").split("/"):
            there = os.path.lexists(os.path.join(place, step))
            name = step if there else self._names_in(place).get(step.casefold())
            if name in (None, "", ".", ".."):
                return None
            place = os.path.join(place, name)
            found.append(name)
            if not self._has(os.path.realpath(place)):
                return None
        return "/".join(found)


def _other_spellings(value: str) -> Iterator[str]:
    """A path as whoever wrote it may have meant it: spreadsheets leave spaces around it, Windows
    has other slashes, and systems write an ä in two ways."""
    stripped = value.strip()
    meant = stripped, stripped.replace("\\", "/")
    forms = (normalize(form, text) for text in meant for form in ("NFC", "NFD"))
    yield from dict.fromkeys(text for text in (*meant, *forms) if text != value)


def _read(file, name: str) -> Fetched:
    """All of an open file, as it was at one moment."""
    before = os.fstat(file.fileno())
    _refuse_others(before, name)
    data = file.read(before.st_size + 1)
    after = os.fstat(file.fileno())
    if _fingerprint(before) != _fingerprint(after) or len(data) != after.st_size:
        raise SourceError(f"{name} was changed while it was read: the next embed reads it anew.")
    return Fetched(data, _fingerprint(after))


def _refuse_others(found: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise SourceError(f"{name} is a folder, not a file.")
    if not stat.S_ISREG(found.st_mode):
        raise SourceError(f"{name} is not a file with contents.")
    if found.st_size > fetched.MAX_BYTES:
        raise SourceError(fetched.too_large(name, found.st_size))


def _fingerprint(found: os.stat_result) -> str:
    return f"file {found.st_size} {found.st_mtime_ns}"
