"""forget(): a collection that is not wanted any more."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from .. import catalog
from ..errors import NotFound
from ..vector_index import discarding
from .choosing import is_shared


def forget(database: Path, name: str) -> str:
    """Remove the collection of exactly this ``name``; returns its own spelling of it.

    The user's table stays, and so does the sidecar that a copied database shares with its
    original. Raises :class:`NotFound`, or :class:`Busy` while somebody writes the sidecar.
    """
    conn = catalog.connect(database, write=True)
    try:
        with catalog.plainly(database):
            every = catalog.collections(conn)
            record = next((record for record in every if record.is_called(name)), None)
            if record is None:
                names = ", ".join(record.name for record in every) or "none"
                raise NotFound(f"there is no collection {name!r}; there is {names}.")
            shared = is_shared(Path(database), record)
            sidecar = nullcontext() if shared else discarding(record.sidecar_path(conn))
            with sidecar, catalog.transaction(conn):
                catalog.drop(conn, record)
                catalog.drop_unused_pictures(conn, [r.id for r in every if r is not record])
            return record.name
    finally:
        conn.close()
