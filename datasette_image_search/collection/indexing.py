"""Another kind of index, from the vectors at hand."""

from __future__ import annotations

from pathlib import Path

from .. import catalog
from ..catalog import Rows
from ..vector_index import SidecarWriter, choose
from .others import changed_meanwhile, is_there, own_sidecar
from .progress import Progress
from .search import identity_of


def rebuild_index(
    database: Path, name: str, kind: str, *, progress: Progress = Progress()
) -> tuple[str, int]:
    """Write the sidecar of a collection anew as ``kind``; (the kind used, vectors)."""
    choose(kind, 0)
    with catalog.opened(database, write=True) as conn:
        record = own_sidecar(conn, Path(database), catalog.require(conn, name))
        path = record.sidecar_path(conn)
        with SidecarWriter(path, identity_of(record), kind) as index:
            if not is_there(conn, record):
                raise changed_meanwhile(record.name)
            if not Rows(conn, record).is_empty():
                index.require_files()  # an empty one would hide that they are lost
            chosen = choose(kind, len(index), record.dimensions)
            progress.tell(f"{len(index):,} vectors as {chosen}.")
            index.save(learn=True)
            used, count = index.kind, len(index)
        with catalog.transaction(conn):
            catalog.update(conn, record.id, index_kind=kind)
        return used, count
