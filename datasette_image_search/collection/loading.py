"""load(): a folder of pictures becomes a table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import sqlite_utils

from .. import catalog, pictures
from ..catalog import Table
from ..errors import NotFound, PictureError, UsageError

EXTENSIONS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".avif",
        ".jp2",
        ".mpo",
        ".ppm",
        ".ico",
    ]
)
# More than this share of a table gone at once looks like a disk that is not there.
_SUSPICIOUS_SHARE, _SUSPICIOUS_ROWS = 0.5, 10


@dataclass
class LoadSummary:
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return (
            f"{self.added} added, {self.changed} changed, {self.removed} removed, "
            f"{self.unchanged} unchanged, {self.skipped} skipped"
        )


def load(database: Path, table: str, folder: Path, *, prune: bool = False) -> LoadSummary:
    """Make or bring up to date the table of the pictures below ``folder``.

    Columns: path (relative to the folder, the key), format, width, height, bytes,
    modified (UTC). Files that are no pictures are skipped. Where more than half of a
    table's pictures are gone, ``prune`` must say that this is meant.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFound(f"there is no folder {str(folder)!r}.")
    if table.startswith(catalog.PREFIX):
        raise UsageError(f"tables named {catalog.PREFIX}… are the catalog's own: choose another.")
    files = dict(_walk(folder))
    database = Path(database)
    conn = catalog.connect(database, write=True) if database.exists() else _create(database)
    try:
        with catalog.plainly(database):
            catalog.prepare(conn)
            with catalog.transaction(conn):
                return _bring_up_to_date(conn, table, folder, files, prune)
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


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """(path relative to ``folder``, stat) of every file that looks like a picture."""

    def fail(error: OSError):
        raise NotFound(f"{error.filename} cannot be read: {error.strerror}.")

    for place, folders, names in os.walk(folder, onerror=fail):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if name.startswith(".") or path.suffix.lower() not in EXTENSIONS:
                continue
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path.stat()
            elif not os.path.lexists(path):
                # It was there a moment ago: perhaps a disk is going, and all that is on it.
                raise NotFound(f"{path} vanished while its folder was read: run this again.")


def _bring_up_to_date(conn, table: str, folder: Path, files: dict, prune: bool) -> LoadSummary:
    db = sqlite_utils.Database(conn)
    summary = LoadSummary()
    known = _known(conn, db, table)
    gone = [path for path in known if path not in files]
    many = len(gone) > max(_SUSPICIOUS_ROWS, _SUSPICIOUS_SHARE * len(known))
    if not prune and (many or (gone and len(gone) == len(known))):
        raise UsageError(
            f"{len(gone)} of the {len(known)} pictures of {table!r} are no longer in {folder}: "
            "if that is meant, run this again with --prune."
        )
    rows = []
    for path, found in files.items():
        modified = _time(found)
        if known.get(path) == (found.st_size, modified):
            summary.unchanged += 1
            continue
        row = _row(folder, path, found, modified)
        if row is None:
            summary.skipped += 1
            continue
        rows.append(row)
        if path in known:
            summary.changed += 1
        else:
            summary.added += 1
    _store(conn, table, rows, gone)
    summary.removed = len(gone)
    catalog.remember_folder(conn, table, folder)
    return summary


def _known(conn, db: sqlite_utils.Database, table: str) -> dict[str, tuple]:
    """path → (bytes, modified) of the rows there are; makes the table if there is none."""
    if table not in catalog.table_names(conn):
        columns = {"path": str, "format": str, "width": int, "height": int}
        columns.update({"bytes": int, "modified": str})
        db.create_table(table, columns, pk="path")
    elif not {"path", "bytes", "modified"} <= set(Table.read(conn, table).columns):
        raise UsageError(
            f"the table {table!r} was not made by load: it lacks the columns path, bytes "
            "and modified. Choose another name."
        )
    name = catalog.quote(table)
    return {p: (b, m) for p, b, m in conn.execute(f"select path, bytes, modified from {name}")}


def _store(conn, table: str, rows: list[dict], gone: list[str]) -> None:
    name = catalog.quote(table)
    columns = ("path", "format", "width", "height", "bytes", "modified")
    updates = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
    conn.executemany(
        f"insert into {name} ({', '.join(columns)}) values (?, ?, ?, ?, ?, ?) "
        f"on conflict (path) do update set {updates}",
        [tuple(row[column] for column in columns) for row in rows],
    )
    conn.executemany(f"delete from {name} where path = ?", [(path,) for path in gone])


def _row(folder: Path, path: str, found: os.stat_result, modified: str) -> dict | None:
    try:
        path.encode()
        kind, width, height = pictures.read_header(folder / path)
    except (PictureError, UnicodeEncodeError):
        return None  # no picture, or a name that SQLite's text cannot hold
    return {
        "path": path,
        "format": kind,
        "width": width,
        "height": height,
        "bytes": found.st_size,
        "modified": modified,
    }


def _time(found: os.stat_result) -> str:
    moment = datetime.fromtimestamp(found.st_mtime, timezone.utc)
    return moment.isoformat(timespec="microseconds")
