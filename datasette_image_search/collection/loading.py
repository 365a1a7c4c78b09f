"""load(): a folder of pictures becomes a table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import sqlite_utils

from .. import catalog
from ..catalog import Table
from ..errors import NotFound, PictureError, UsageError
from ..pictures.decoders import Decoders
from .progress import Progress

# fmt: off
EXTENSIONS = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".avif",
    ".jp2", ".mpo", ".ppm", ".ico",
])
# Pictures too, which nothing here can decode: they are not passed over in silence.
_UNREADABLE = {
    ".heic": "HEIC", ".heif": "HEIF", ".jxl": "JPEG XL", ".svg": "SVG",
    **dict.fromkeys([".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"],
                    "a camera's raw format"),
}
# fmt: on
_LISTED = EXTENSIONS | _UNREADABLE.keys()
# More than this share of a table gone at once looks like a disk that is not there.
_SUSPICIOUS_SHARE, _SUSPICIOUS_ROWS = 0.5, 2
# Headers are read so many at a time, and then written: others may write in between.
_BATCH = 500
_MOST_REASONS = 5
# To find out what a file is; it may be at the other end of a network.
HEADER_SECONDS = 30
_COLUMNS = ("path", "format", "width", "height", "bytes", "modified")


@dataclass
class LoadSummary:
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: int = 0
    reasons: list[str] = field(default_factory=list)  # of the first that were skipped

    def skip(self, path: str, reason: str) -> None:
        self.skipped += 1
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(f"{path}: {reason}")

    def __str__(self) -> str:
        return (
            f"{self.added} added, {self.changed} changed, {self.removed} removed, "
            f"{self.unchanged} unchanged, {self.skipped} skipped"
        )


@dataclass(frozen=True)
class _Skipped:
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
    modified (UTC). Files that cannot be read as pictures are skipped, and so are hidden ones and
    hidden folders. Where more than half of a table's pictures are gone, or some of a table that
    was not loaded from this folder, ``prune`` must say that this is meant. Interrupted, the next
    call goes on from the last batch.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFound(f"there is no folder {str(folder)!r}.")
    if not table.strip():
        raise UsageError("the table must have a name.")  # Datasette could not show it
    if table.lower().startswith(catalog.PREFIX):
        raise UsageError(f"tables named {catalog.PREFIX}… are the catalog's own: choose another.")
    summary = LoadSummary()
    files = dict(_walk(folder, summary))
    database = Path(database)
    if not (files or summary.skipped or database.exists()):
        raise _nothing_in(folder)
    conn = catalog.connect(database, write=True) if database.exists() else _create(database)
    try:
        with catalog.plainly(database):
            _bring_up_to_date(conn, table, folder, files, prune, progress, summary)
            return summary
    finally:
        conn.close()


def _create(database: Path):
    if not database.parent.is_dir():
        raise NotFound(f"there is no folder {str(database.parent)!r} for {database.name}.")
    with catalog.plainly(database):
        db = sqlite_utils.Database(database)
        db.conn.execute("vacuum")  # an empty database is a file too
        db.conn.close()
    return catalog.connect(database, write=True)


def _walk(folder: Path, summary: LoadSummary) -> Iterator[tuple[str, os.stat_result]]:
    """(path relative to ``folder``, stat) of every file that looks like a picture."""

    def fail(error: OSError):
        raise NotFound(f"{error.filename} cannot be read: {error.strerror}.")

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            ending = path.suffix.lower()
            if name.startswith(".") or ending not in _LISTED:
                continue
            if path.is_file():
                inside = path.relative_to(folder).as_posix()
                if ending in _UNREADABLE:
                    summary.skip(inside, f"{_UNREADABLE[ending]} cannot be read here.")
                else:
                    yield inside, path.stat()
            elif not os.path.lexists(path):
                # It was there a moment ago: perhaps a disk is going, and all that is on it.
                raise NotFound(f"{path} vanished while its folder was read: run this again.")


def _bring_up_to_date(
    conn, table: str, folder: Path, files: dict, prune: bool, progress: Progress, summary
) -> None:
    with catalog.transaction(conn):
        table, known = _known(conn, table)
        if not (files or summary.skipped or known):
            raise _nothing_in(folder)
        gone = [path for path in known if path not in files]
        many = len(gone) > max(_SUSPICIOUS_ROWS, _SUSPICIOUS_SHARE * len(known))
        before = catalog.folder_of(conn, table)
        elsewhere = before is None or before.resolve() != folder.resolve()
        if not prune and gone and (many or elsewhere or len(gone) == len(known)):
            raise UsageError(
                f"{len(gone)} of the {len(known)} pictures of {table!r} are no longer in "
                f"{folder}: if that is meant, run this again with --prune."
            )
        catalog.prepare(conn)
        catalog.remember_folder(conn, table, folder)
    wanted = [path for path, found in files.items() if known.get(path) != _state(found)]
    summary.unchanged = len(files) - len(wanted)
    progress.start(len(wanted))
    for rows in _headers(folder, files, wanted):
        here = [row for row in rows if isinstance(row, tuple)]
        with catalog.transaction(conn):
            _store(conn, table, here)
        changed = sum(row[0] in known for row in here)
        summary.changed += changed
        summary.added += len(here) - changed
        for skipped in rows:
            if isinstance(skipped, _Skipped):
                summary.skip(skipped.path, skipped.reason)
        progress.advance(len(rows))
    with catalog.transaction(conn):
        name = catalog.quote(table)
        conn.executemany(f"delete from {name} where path = ?", [(path,) for path in gone])
    summary.removed = len(gone)


def _nothing_in(folder: Path) -> NotFound:
    return NotFound(f"there is no picture in {folder}, nor in a folder below it.")


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
    rows = conn.execute(f"select path, bytes, modified from {name}")
    return found.name, {path: (size, modified) for path, size, modified in rows}


def _headers(folder: Path, files: dict, wanted: list[str]) -> Iterator[list[tuple | _Skipped]]:
    """Rows of the pictures ``wanted``, in batches, or why there is none."""
    if not wanted:
        return
    with Decoders(seconds=HEADER_SECONDS) as decoders, ThreadPoolExecutor(decoders.most) as pool:

        def row(path: str) -> tuple | _Skipped:
            try:
                path.encode()
                kind, width, height = decoders.read_header(folder / path)
            except PictureError as error:
                return _Skipped(path, str(error))
            except UnicodeEncodeError:
                return _Skipped(path, "its name is no text (UTF-8).")
            return (path, kind, width, height, *_state(files[path]))

        for start in range(0, len(wanted), _BATCH):
            yield list(pool.map(row, wanted[start : start + _BATCH]))


def _store(conn, table: str, rows: list[tuple]) -> None:
    updates = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[1:])
    conn.executemany(
        f"insert into {catalog.quote(table)} ({', '.join(_COLUMNS)}) values (?, ?, ?, ?, ?, ?) "
        f"on conflict (path) do update set {updates}",
        rows,
    )


def _state(found: os.stat_result) -> tuple[int, str | None]:
    """What tells a file from its next version: bytes, and when it was modified."""
    return found.st_size, _time(found)


def _time(found: os.stat_result) -> str | None:
    """In UTC; none where a damaged disk or a camera's clock tells of a year that is not ours."""
    try:
        moment = datetime.fromtimestamp(found.st_mtime, timezone.utc)
    except (ValueError, OverflowError, OSError):  # by how far, and on which system
        return None
    return moment.isoformat(timespec="microseconds")
