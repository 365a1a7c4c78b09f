"""Rows ↔ pictures, in tables of our own inside the user's database."""

from .collections import (
    CollectionRecord,
    collections,
    drop,
    find,
    folder_of,
    forget_fingerprints,
    insert,
    portable,
    remember_folder,
    renew_key,
    require,
    update,
)
from .connection import (
    connect,
    has_journal,
    is_interrupted,
    plainly,
    prepare,
    roll_back,
    state,
    transaction,
)
from .rows import Rows
from .rows_writer import (
    Candidate,
    Outcome,
    Picture,
    RowsWriter,
    drop_unused_pictures,
    drop_unwanted_thumbnails,
)
from .seen_rows import SeenRows
from .sidecars import free_sidecar_name, sidecars_of_others
from .tables import PREFIX, Table, database_name, database_path, quote, table_names

__all__ = [
    "PREFIX",
    "Candidate",
    "CollectionRecord",
    "Outcome",
    "Picture",
    "Rows",
    "RowsWriter",
    "SeenRows",
    "Table",
    "collections",
    "connect",
    "database_name",
    "database_path",
    "drop",
    "drop_unused_pictures",
    "drop_unwanted_thumbnails",
    "find",
    "folder_of",
    "forget_fingerprints",
    "free_sidecar_name",
    "has_journal",
    "insert",
    "is_interrupted",
    "plainly",
    "portable",
    "prepare",
    "quote",
    "remember_folder",
    "renew_key",
    "require",
    "roll_back",
    "sidecars_of_others",
    "state",
    "table_names",
    "transaction",
    "update",
]
