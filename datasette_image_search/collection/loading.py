"""load(): a folder of pictures becomes a table."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import sqlite_utils

from .. import catalog
from ..catalog import Table
from ..errors import NotFound, PictureError, UsageError
from ..pictures.decoders import Decoders
from ..pictures.kinds import BY_ENDING, cannot_be_read
from .folders import file_facts
from .progress import Progress
from .skipped import Skipped

# As Pillow has them for the formats that are opened, and a few that are written all the same.
# fmt: off
EXTENSIONS = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".tif", ".tiff",
    ".bmp", ".dib", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm",
    ".pgm", ".pbm", ".pnm", ".pfm", ".ico",
])
# fmt: on
# Those that nothing here can decode are not passed over in silence.
_LISTED = EXTENSIONS | BY_ENDING.keys()
# Folders that systems make beside what people put there, in small letters: thumbnails of all
# pictures, those that were deleted, those of last week.
_OF_SYSTEMS = frozenset([
    "@eadir", "@__thumb", "@recycle", "@recently-snapshot", "#recycle", "#snapshot",
    "$recycle.bin", "system volume information", "lost+found",
])  # fmt: skip
# More than this share of a table gone at once looks like a disk that is not there.
_SUSPICIOUS_SHARE, _SUSPICIOUS_ROWS = 0.5, 2
# Headers are read so many at a time, and then written: others may write in between.
_BATCH = 500
# To find out what a file is; it may be at the other end of a network.
HEADER_SECONDS = 30
_EFFECTIVE = os.access in os.supports_effective_ids
_TELLING_SECONDS = 10  # between two sentences on how many files were found
_COLUMNS = ("path", "format", "width", "height", "bytes", "modified")


@dataclass
class LoadSummary:
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    left_out: Skipped = field(default_factory=Skipped)

    @property
    def skipped(self) -> int:
        return self.left_out.count

    def __str__(self) -> str:
        return (
            f"{self.added:,} added, {self.changed:,} changed, {self.removed:,} removed, "
            f"{self.unchanged:,} unchanged, {self.skipped:,} skipped"
        )


@dataclass
class _Found:
    """What a folder has: path relative to it → :func:`file_facts` of every file that looks like a
    picture; and the folders in it that may not be read, and have nobody knows what."""

    files: dict[str, tuple] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)

    def lacks(self, path: str) -> bool:
        """Is the file certainly gone?"""
        return path not in self.files and not path.startswith(tuple(f"{c}/" for c in self.closed))


@dataclass(frozen=True)
class _Refused:
    path: str
    reason: str


def load(
    database: Path,
    table: str,
    folder: Path,
    *,
    prune: bool = False,
    progress: Progress = Progress(),
) -> LoadSummary:
    """Make or bring up to date the table of the pictures below ``folder``.

    Columns: path (relative to the folder, the key), format, width, height, bytes,
    modified (UTC). Files that cannot be read as pictures are skipped, and so are links that lead
    outside the folder, linked folders, whatever is hidden, and what systems keep for themselves.
    Of a folder that may not be read, the table keeps what it has. Where more than half of a table's
    pictures are gone, or some of a table that was not loaded from this folder, ``prune`` must say
    that this is meant. Interrupted, the next call goes on from the last batch.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFound(f"there is no folder {str(folder)!r}.")
    if not table.strip():
        raise UsageError("the table must have a name.")  # Datasette could not show it
    catalog.refuse_reserved(table)
    summary = LoadSummary()
    database = Path(database)
    _refuse_unfit(database)  # before much time is spent on the folder
    found = _found_in(folder, summary.left_out, progress)
    if not (found.files or database.exists()):
        raise _nothing_in(folder, summary.left_out)
    if not database.exists():
        _create(database)
    with catalog.opened(database, write=True) as conn:
        _bring_up_to_date(conn, table, folder, found, prune, progress, summary)
    return summary


def _refuse_unfit(database: Path) -> None:
    if database.exists():
        catalog.connect(database).close()
    elif not database.parent.is_dir():
        raise NotFound(f"there is no folder {str(database.parent)!r} for {database.name}.")


def _create(database: Path) -> None:
    with catalog.plainly(database):
        db = sqlite_utils.Database(database)
        db.conn.execute("vacuum")  # an empty database is a file too
        db.conn.close()


def _found_in(folder: Path, left_out: Skipped, progress: Progress) -> _Found:
    found, due = _Found(), monotonic() + _TELLING_SECONDS
    for path, facts in _walk(folder, left_out, found.closed):
        found.files[path] = facts
        if monotonic() >= due:
            progress.tell(f"from {folder}: {len(found.files):,} found so far.")
            due = monotonic() + _TELLING_SECONDS
    return found


def _walk(folder: Path, left_out: Skipped, closed: list[str]) -> Iterator[tuple[str, tuple]]:
    """What :class:`_Found` is made of, one after the other."""

    def fail(error: OSError) -> None:
        place = Path(error.filename)
        if not isinstance(error, PermissionError) or place == folder:
            raise NotFound(f"{place} cannot be read: {error.strerror}.")
        closed.append(place.relative_to(folder).as_posix())
        left_out.add(closed[-1], "a folder that may not be read; what the table has of it stays.")

    for place, folders, names in os.walk(folder, onerror=fail):
        # Of some the names may be read, and nothing more.
        if not os.access(place, os.X_OK, effective_ids=_EFFECTIVE):
            fail(PermissionError(errno.EACCES, os.strerror(errno.EACCES), place))
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not _is_passed_over(name))
        for path in (Path(place, name) for name in folders):
            if path.is_symlink():
                left_out.add_folder(path.relative_to(folder).as_posix())
        for name in sorted(names):
            path = Path(place, name)
            ending = path.suffix.lower()
            if name.startswith(".") or ending not in _LISTED:
                continue
            inside = path.relative_to(folder).as_posix()
            is_link = path.is_symlink()
            try:
                found = os.stat(path)
            except OSError as error:
                if is_link and os.path.lexists(path):
                    left_out.add(inside, "a link that leads nowhere, or where nothing may be read.")
                    continue
                # It was there a moment ago: perhaps a disk is going, and all that is on it.
                what = "vanished" if isinstance(error, FileNotFoundError) else "could not be read"
                said = f"{path} {what} while its folder was read: run this again."
                raise NotFound(said) from error
            if not stat.S_ISREG(found.st_mode):
                continue
            if ending in BY_ENDING:
                left_out.add(inside, cannot_be_read(BY_ENDING[ending]))
            elif is_link and not _is_inside(folder, path):
                left_out.add(inside, "a link that leads outside the folder.")
            else:
                yield inside, file_facts(found)


def _is_passed_over(folder: str) -> bool:
    return folder.startswith(".") or folder.lower() in _OF_SYSTEMS


def _is_inside(folder: Path, link: Path) -> bool:
    """Does a link lead to a file that embed will read, which leaves the folder for none?"""
    return link.resolve().is_relative_to(folder.resolve())


def _bring_up_to_date(
    conn, table: str, folder: Path, found: _Found, prune: bool, progress: Progress, summary
) -> None:
    files = found.files
    with catalog.transaction(conn):
        table, known = _known(conn, table)
        if not (files or known):
            raise _nothing_in(folder, summary.left_out)
        gone = [path for path in known if found.lacks(path)]
        many = len(gone) > max(_SUSPICIOUS_ROWS, _SUSPICIOUS_SHARE * len(known))
        before = catalog.folder_of(conn, table)
        elsewhere = before is None or before.resolve() != folder.resolve()
        if not prune and gone and (many or elsewhere or len(gone) == len(known)):
            where = f"no longer in {folder}"
            if elsewhere:
                where = f"not in {folder}" + (f", but were in {before}" if before else "")
            raise UsageError(
                f"{len(gone):,} of the {len(known):,} pictures of {table!r} are {where}: "
                "if that is meant, run this again with --prune."
            )
        catalog.prepare(conn)
        catalog.remember_folder(conn, table, folder)
    wanted = [path for path, facts in files.items() if known.get(path) != facts]
    summary.unchanged = len(files) - len(wanted)
    progress.start(len(wanted))
    for rows in _headers(folder, files, wanted):
        here = [row for row in rows if isinstance(row, tuple)]
        with catalog.transaction(conn):
            _store(conn, table, here)
        changed = sum(row[0] in known for row in here)
        summary.changed += changed
        summary.added += len(here) - changed
        for refused in rows:
            if isinstance(refused, _Refused):
                summary.left_out.add(refused.path, refused.reason)
        progress.advance(len(rows))
    with catalog.transaction(conn):
        name = catalog.quote(table)
        conn.executemany(f"delete from {name} where path = ?", [(path,) for path in gone])
    summary.removed = len(gone)


def _nothing_in(folder: Path, left_out: Skipped) -> NotFound:
    said = f"there is no picture that can be read in {folder}, nor in a folder below it"
    if lines := left_out.lines():
        said += f"; skipped: {'; '.join(line.removesuffix('.') for line in lines[:3])}"
    return NotFound(f"{said}.")


def _known(conn, table: str) -> tuple[str, dict[str, tuple]]:
    """The table as SQLite spells it, made if there is none; path → (bytes, modified)."""
    try:
        found = Table.read(conn, table)
    except NotFound:
        columns = {"path": str, "format": str, "width": int, "height": int}
        columns.update({"bytes": int, "modified": str})
        sqlite_utils.Database(conn).create_table(table, columns, pk="path")
        return table, {}
    if not set(_COLUMNS) <= set(found.columns) or found.keys != ("path",):
        raise UsageError(
            f"the table {found.name!r} was not made by load: it lacks the columns "
            f"{', '.join(_COLUMNS)}, or path is not its key. Choose another name."
        )
    name = catalog.quote(found.name)
    # A path that is null or a BLOB was not written by load: such a row is left as it is.
    rows = conn.execute(f"select path, bytes, modified from {name} where typeof(path) = 'text'")
    return found.name, {path: (size, modified) for path, size, modified in rows}


def _headers(folder: Path, files: dict, wanted: list[str]) -> Iterator[list[tuple | _Refused]]:
    """Rows of the pictures ``wanted``, in batches, or why there is none."""
    if not wanted:
        return
    with Decoders(seconds=HEADER_SECONDS) as decoders, ThreadPoolExecutor(decoders.most) as pool:

        def row(path: str) -> tuple | _Refused:
            try:
                path.encode()
                kind, width, height = decoders.read_header(folder / path)
            except PictureError as error:
                return _Refused(path, str(error))
            except UnicodeEncodeError:
                return _Refused(path, "its name is no text (UTF-8).")
            return (path, kind, width, height, *files[path])

        for start in range(0, len(wanted), _BATCH):
            yield list(pool.map(row, wanted[start : start + _BATCH]))


def _store(conn, table: str, rows: list[tuple]) -> None:
    updates = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[1:])
    conn.executemany(
        f"insert into {catalog.quote(table)} ({', '.join(_COLUMNS)}) values (?, ?, ?, ?, ?, ?) "
        f"on conflict (path) do update set {updates}",
        rows,
    )
