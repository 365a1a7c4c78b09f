"""The catalog's own tables, which name rows of every other: not to be shown to visitors."""

from __future__ import annotations

import sqlite3
from weakref import WeakKeyDictionary

from ..catalog_names import FIXED, is_ours
from . import files

_known: WeakKeyDictionary = WeakKeyDictionary()


async def of_database(db) -> list[str]:
    """Those there are now, as Datasette's own list may be a second old, and an embed faster;
    and those that may come: whoever makes one before us would say what is in it.

    Asked several times in a request, so that it is read anew only once the file has changed.
    """
    state = files.state_with_log(db.path)
    known = _known.get(db)
    if known is not None and state is not None and known[0] == state:
        return known[1]
    try:
        found = await db.execute(
            "select name from sqlite_master where name like 'image!_search!_%' escape '!'"
        )
    except sqlite3.Error:  # what cannot be read shows nothing, and others are asked about too
        return list(FIXED)
    names = [*FIXED, *(name for (name,) in found.rows if is_ours(name) and name not in FIXED)]
    _known[db] = (state, names)
    return names
