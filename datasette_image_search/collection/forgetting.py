"""forget(): a collection that is not wanted any more."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from .. import catalog
from ..catalog import CollectionRecord
from ..errors import CatalogError, NotFound
from ..vector_index import discarding
from .others import changed_meanwhile, is_shared, is_there


def forget(database: Path, name: str) -> str:
    """Remove the collection of exactly this ``name``; returns its own spelling of it.

    The user's table stays, and so does the sidecar that a copied database shares with its
    original. Raises :class:`NotFound`, or :class:`Busy` while somebody writes the sidecar.
    """
    with catalog.opened(database, write=True) as conn:
        every = catalog.collections(conn)
        record = next((record for record in every if record.is_called(name)), None)
        if record is None:
            if not every:
                raise NotFound(f"there is no collection in {catalog.database_name(conn)}.")
            names = ", ".join(record.name for record in every)
            raise NotFound(f"there is no collection {name!r}, but {names}.")
        with _sidecar_of(conn, database, record), catalog.transaction(conn):
            if not is_there(conn, record):
                raise changed_meanwhile(record.name)
            catalog.drop(conn, record)
            others = [known.id for known in catalog.collections(conn)]
            catalog.drop_unused_pictures(conn, others)
        return record.name


def _sidecar_of(conn, database: Path, record: CollectionRecord):
    """Deletes the collection's own sidecar at its end, if it has one of its own."""
    try:
        path = record.sidecar_path(conn)
    except CatalogError:  # the catalog names a file that can be none
        return nullcontext()
    return nullcontext() if is_shared(Path(database), record) else discarding(path)
