"""The catalog's own tables, which name rows of every other: not to be shown to visitors."""

from __future__ import annotations

import sqlite3

from ..catalog_names import is_ours
from . import files

_known = files.UntilChanged()


async def of_database(db) -> list[str]:
    """Those there are now: Datasette's own list may be a second old, and an embed faster.

    Asked several times in a request.
    """

    async def look_up() -> list[str]:
        found = await db.execute(
            "select name from sqlite_master where name like 'image!_search!_%' escape '!'"
        )
        return [name for (name,) in found.rows if is_ours(name)]

    try:
        return await _known.get(db, look_up)
    except sqlite3.Error:  # what cannot be read shows nothing, and others are asked about too
        return []
