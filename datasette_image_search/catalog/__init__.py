"""Rows ↔ pictures, in tables of our own inside the user's database."""

from .collections import (
    CollectionRecord,
    collections,
    drop,
    find,
    forget_fingerprints,
    insert,
    refuse_name_of_a_table,
    renew_key,
    require,
    update,
)
from .connection import (
    connect,
    has_journal,
    is_interrupted,
    opened,
    plainly,
    prepare,
    roll_back,
    state,
    transaction,
)
from .folders import folder_of, portable, remember_folder
from .remade import lost_tables, make_as_ours, make_lost
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
from .tables import (
    Table,
    database_name,
    database_path,
    quote,
    refuse_reserved,
    same_name,
    table_names,
)

__all__ = [
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
    "lost_tables",
    "make_as_ours",
    "make_lost",
    "opened",
    "plainly",
    "portable",
    "prepare",
    "quote",
    "refuse_name_of_a_table",
    "refuse_reserved",
    "remember_folder",
    "renew_key",
    "require",
    "roll_back",
    "same_name",
    "sidecars_of_others",
    "state",
    "table_names",
    "transaction",
    "update",
]
