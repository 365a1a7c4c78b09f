"""verify() and repair(): find damage in a database's collections; mend it from what is left."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from .. import catalog
from ..catalog import CollectionRecord, Rows
from ..errors import ImageSearchError, SidecarMissing
from ..vector_index import Sidecar, mend, problems
from .lost import count_lost, told
from .others import is_shared, own_sidecar
from .search import Collection, identity_of


@dataclass(frozen=True)
class Finding:
    """One collection: what is wrong with it, and how many pictures lack their vectors."""

    name: str
    problems: list[str]
    missing: int

    @property
    def sound(self) -> bool:
        return not self.problems and not self.missing


def verify(conn: sqlite3.Connection) -> list[Finding]:
    """Check every collection, its files to the last byte. The database itself first."""
    (checked,) = conn.execute("pragma quick_check(1)").fetchone()
    if checked != "ok":
        return [Finding(catalog.database_name(conn), [f"SQLite finds damage: {checked}."], 0)]
    if lost := catalog.lost_tables(conn):
        said = (
            f"its catalog lacks {', '.join(lost)}: 'datasette image-search repair' makes it anew."
        )
        return [Finding(catalog.database_name(conn), [said], 0)]
    return [_verify(conn, record) for record in catalog.collections(conn)]


def _verify(conn, record: CollectionRecord) -> Finding:
    found, missing = [], 0
    try:
        with catalog.plainly(catalog.database_name(conn)):
            if not Rows(conn, record).is_empty():  # else an embed has just begun, or was killed
                found = problems(record.sidecar_path(conn), identity_of(record))
            catalog.refuse_name_of_a_table(conn, record.name, record.table_with_column(conn).name)
            Collection.open(conn, record.name, of_collection=True)
            missing = 0 if found else _missing(conn, record)
    except ImageSearchError as error:
        found.append(str(error))
    return Finding(record.name, found, missing)


def _missing(conn, record: CollectionRecord) -> int:
    """How many pictures that rows have are without a vector."""
    rows = Rows(conn, record)
    used = rows.pictures_in_use()
    if len(used) == 0:
        return 0  # an embed has just begun, and what lies there may be the one's before
    try:
        return count_lost(rows, Sidecar(record.sidecar_path(conn), identity_of(record)))
    except SidecarMissing:
        return len(used)


def repair(database: Path, *, trust_catalog: bool = False) -> list[str]:
    """Mend every collection from what is left; a sentence for each thing done or to do.

    A catalog that another program has made anew is refused with what it says, unless who owns
    the database has seen that, and trusts it.
    """
    failed = []
    with catalog.opened(database, write=True) as conn:
        said = catalog.make_as_ours(conn, trust_catalog) + catalog.make_lost(conn)
        for record in catalog.collections(conn):
            try:
                with catalog.plainly(database):
                    said += _repair(conn, database, record)
            except ImageSearchError as error:  # the others can still be mended
                failed.append(error)
    if failed and not said:
        raise failed[0]
    return said + [str(error) for error in failed]


def _repair(conn, database: Path, record: CollectionRecord) -> list[str]:
    path, identity = record.sidecar_path(conn), identity_of(record)
    if is_shared(Path(database), record) and problems(path, identity):
        record = own_sidecar(conn, Path(database), record)
    said = mend(record.sidecar_path(conn), identity_of(record))
    missing = _missing(conn, record)
    if not said:
        # what nothing here can mend is said too
        record.table_with_column(conn)
        record.table(conn)
    if missing:
        said.append(told(database, record, missing))
    return said
