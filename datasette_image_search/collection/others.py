"""Others at the same collection: who has changed it meanwhile, and who shares its sidecar."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .. import catalog
from ..catalog import CollectionRecord
from ..errors import Busy
from ..vector_index import copying


def changed_meanwhile(name: str) -> Busy:
    return Busy(f"another program has just changed the collection {name!r}: run this again.")


def is_there(conn, record: CollectionRecord) -> bool:
    """Is it still the collection that was chosen? Nobody had its sidecar's lock until now.

    Its number alone does not say so: when it has gone, another one is given that.
    """
    return any(
        replace(known, finished=record.finished) == record for known in catalog.collections(conn)
    )


def own_sidecar(conn, database: Path, record: CollectionRecord) -> CollectionRecord:
    """A copied database names the original's sidecar; writing, it takes a copy of that too."""
    if not is_shared(database, record):
        return record
    name = catalog.free_sidecar_name(conn, database, record.name)
    shared = record.sidecar_path(conn)
    with copying(shared, shared.with_name(name)) as copy:
        # Until now another embed may have had the lock, and the name.
        as_it_was = {"sidecar": record.sidecar, "finished": record.finished}
        every = catalog.collections(conn)
        now = next((one for one in every if replace(one, **as_it_was) == record), None)
        if now is None or catalog.free_sidecar_name(conn, database, record.name) != name:
            raise changed_meanwhile(record.name)
        if now.sidecar != record.sidecar:
            return now
        copy()
        with catalog.transaction(conn):
            catalog.update(conn, record.id, sidecar=name)
    return replace(now, sidecar=name)


def is_shared(database: Path, record: CollectionRecord) -> bool:
    """Does another database of the folder name the same sidecar, as a copied one's original?"""
    return record.sidecar in catalog.sidecars_of_others(database)
