"""The folder of a collection's files: is it there, and is it the one that is meant?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from itertools import chain, islice
from pathlib import Path

from .. import catalog
from ..catalog import CollectionRecord, Rows, RowsWriter
from ..errors import NotFound, UsageError
from ..sources import Sources, is_path
from ..wording import command_line, sql_text

# So many rows tell whether a folder's files are those that a table was made of.
_COMPARED = 200
_FEWEST = 5


def files_folder(conn, record: CollectionRecord) -> Path | None:
    """Where the files are looked for that the table names; None if it has BLOBs or URLs."""
    value = next(RowsWriter(conn, record).values(), None)
    return record.root_path(conn) if is_path(value) else None


def require_folder(conn, record: CollectionRecord) -> None:
    # A folder that is not mounted is one mistake, not one for each row.
    folder = files_folder(conn, record)
    if folder is not None and not folder.is_dir():
        raise folder_missing(folder)


def folder_missing(root: Path) -> NotFound:
    return NotFound(f"the pictures' folder {root} is not there: name it with --root.")


def require_its_files(conn, old: CollectionRecord, record: CollectionRecord) -> None:
    """Raises :class:`NotFound` where pictures are embedded, and not one of them would be found.

    A folder that is mistyped, or there but not mounted, would take from all rows what they have.
    """
    if not Rows(conn, old).has_pictures():
        return
    sources = Sources(record.root_path(conn))
    every = RowsWriter(conn, record).values()
    first = next(every, None)
    if is_path(first) and not any(map(sources.may_be_there, chain((first,), every))):
        before, said = old.root_path(conn), "name the folder with --root"
        if first.startswith(os.path.join(before, "")) and not before.is_dir():
            said = f"{_how_to_shorten(record, before)} first"
        raise NotFound(
            f"not one file of {record.column_name!r} is in {sources.root}: nothing was changed; "
            f"{said}. Until now it was {before}."
        )


def require_pictures(conn, old: CollectionRecord, record: CollectionRecord) -> None:
    """Raises :class:`NotFound` where pictures are embedded, and the table or the column that is to
    take the place of the one that has gone can have none.

    One that is mistyped would take from all rows what they have, as a wrong folder would.
    """
    if not Rows(conn, old).has_pictures():
        return
    require_folder(conn, record)
    sources = Sources(record.root_path(conn))
    # Numbers are no pictures.
    values = (v for v in RowsWriter(conn, record).values() if v is None or isinstance(v, str))
    if not any(map(sources.may_be_there, values)):
        raise NotFound(
            f"not one row of {record.table_name!r} has a picture in {record.column_name!r}: "
            "nothing was changed; name the table and, with --column, the column that has those of "
            f"{old.table_name}.{old.column_name}, or their folder with --root."
        )


def _how_to_shorten(record: CollectionRecord, before: Path) -> str:
    """Of whole paths, that lead to where a folder was which has been moved."""
    column = catalog.quote(record.column_name)
    start = os.path.join(before, "")
    # Not replace(), which takes it out wherever it comes again.
    return (
        "its paths are whole ones, and must be as they are below the folder: run the SQL "
        f"update {catalog.quote(record.table_name)} set {column} = "
        f"substr({column}, {len(start) + 1}) "
        f"where substr({column}, 1, {len(start)}) = {sql_text(start)}"
    )


def refuse_another_tables_files(conn, record: CollectionRecord) -> None:
    """Raises :class:`UsageError` where most files of a table that ``load`` made are others than
    it says: a folder is remembered by the table's name, which another table may have now.

    A file that is newer than the table says has been edited where it is, and is no other.
    """
    table, root = record.table_name, record.root_path(conn)
    if catalog.folder_of(conn, table) != root:
        return
    found = list(islice(_are_others(conn, record, root), _COMPARED))
    if len(found) >= _FEWEST and sum(found) * 2 > len(found):
        raise UsageError(
            f"most files in {root} are others than {table!r} says, by size and date: run "
            f"{command_line('load', catalog.database_name(conn), table)} with the folder that it "
            "was made of first, or name this one with --root."
        )


def _are_others(conn, record: CollectionRecord, root: Path) -> Iterator[bool]:
    """Of rows whose file is there: has it another size than the table says, and an older date?"""
    table = catalog.Table.read(conn, record.table_name)
    if not {"path", "bytes", "modified"} <= table.columns.keys():
        return
    name = catalog.quote(table.name)
    # Whatever has been made of their types since.
    query = f"select path, cast(bytes as integer), modified from {name} where bytes > 0"
    for path, size, modified in conn.execute(query):
        with suppress(OSError, TypeError, ValueError):
            now = file_facts(os.stat(root / path))
            yield now[0] != size and now[1] < modified


def file_facts(found: os.stat_result) -> tuple[int, str | None]:
    """What tells a file from its next version: bytes, and when it was modified."""
    return found.st_size, _time(found)


def _time(found: os.stat_result) -> str | None:
    """In UTC; none where a damaged disk or a camera's clock tells of a year that is not ours."""
    try:
        moment = datetime.fromtimestamp(found.st_mtime, timezone.utc)
    except (ValueError, OverflowError, OSError):  # by how far, and on which system
        return None
    return moment.isoformat(timespec="microseconds")
