"""The names of sidecars: which are taken, and by whom. Two collections never share one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, count
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import quote as percent_encoded

from ..errors import CatalogError, NotFound
from .collections import SIDECAR, collections
from .connection import opened
from .tables import same_name

_HEADER = b"SQLite format 3\0"
_LIST = "image_search_collections"


def free_sidecar_name(conn: sqlite3.Connection, database: Path, collection: str) -> str:
    """``shop.db`` and ``products`` → ``shop.products.faiss``, for any collection's name.

    Where another database of the folder, or another collection of this one, has that,
    ``shop.db.products.faiss``, or with a number; a file that none names is a leftover.
    """
    if len(_sidecar_name(database.stem, collection).encode()) > 200:
        raise CatalogError(
            f"the collection's name {collection[:40]!r}… is too long for a file's name: "
            "give it a shorter one with --collection."
        )
    taken = sidecars_of_others(database)
    taken |= {one.sidecar for one in collections(conn) if not one.is_called(collection)}
    # For macOS and Windows, where they may be moved to, two of these are one file.
    taken = {name.casefold() for name in taken}
    owners = chain((database.stem, database.name), (f"{database.name}-{n}" for n in count(2)))
    names = (_sidecar_name(owner, collection) for owner in owners)
    return next(name for name in names if name.casefold() not in taken)


def _sidecar_name(owner: str, collection: str) -> str:
    return f"{owner}.{percent_encoded(collection, safe=' ')}{SIDECAR}"


def sidecars_of_others(database: Path) -> set[str]:
    """The sidecars that the other databases of the same folder name.

    Raises :class:`CatalogError` where one of them cannot be asked: whoever took that for
    none would write on its sidecar.
    """
    taken = set()
    for other in _other_databases(database):
        try:
            taken |= _sidecars_named(other)
        except CatalogError as error:
            raise type(error)(
                f"which sidecars {other.name} names cannot be seen, and they may be those of "
                f"{database.name}: {error}"
            ) from error
    return taken


def _other_databases(database: Path) -> Iterator[Path]:
    """By their first bytes: Datasette serves a database whatever it is called.

    But pictures, of which there may be very many, are told by their names. The database
    itself is not opened, under any name: closing it would end its connections' locks.
    """
    for other in database.resolve().parent.iterdir():
        if (guess_type(other.name, strict=False)[0] or "").startswith("image/"):
            continue
        with suppress(OSError):
            if other.is_file() and not other.samefile(database):
                with open(other, "rb") as file:
                    is_database = file.read(len(_HEADER)) == _HEADER
                if is_database:
                    yield other


def _sidecars_named(database: Path) -> set[str]:
    try:
        # As its own reader would: what a killed writer has left is rolled back.
        with opened(database) as conn:
            if not _has_list(conn):
                return set()
            found = conn.execute(f"select sidecar from main.{_LIST}").fetchall()
            return {str(name) for (name,) in found}
    except NotFound:
        return set()  # it has just gone
    except CatalogError as error:
        if str(error.__cause__) == "file is not a database":
            return set()
        raise


def _has_list(conn: sqlite3.Connection) -> bool:
    """Is there a table that names sidecars, whoever made it?

    Another program may have made ours anew, and its sidecars are its own still. Of one that was
    planted no more is believed than that: whoever may write to one database does not keep its
    neighbours from being embedded. A view or a virtual table is asked nothing, it may never end;
    nor is a column that is computed, which is not listed here.
    """
    query = "select sql from main.sqlite_master where type = 'table' and name = ? collate nocase"
    found = conn.execute(query, (_LIST,)).fetchone()
    if found is None or not found[0].upper().startswith("CREATE TABLE"):
        return False
    columns = conn.execute(f"pragma main.table_info({_LIST})").fetchall()
    return any(same_name(column[1], "sidecar") for column in columns)
