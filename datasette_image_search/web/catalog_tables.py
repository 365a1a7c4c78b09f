"""The catalog's own tables, which name rows of every other: not to be shown to visitors."""

from __future__ import annotations

import re
import sqlite3
from weakref import WeakKeyDictionary

from . import files

_NAME = re.compile(r"image_search_(migrations|folders|collections|pictures|rows_\d+)", re.ASCII)
_known: WeakKeyDictionary = WeakKeyDictionary()


def is_one(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


async def of_database(db) -> list[str]:
    """Those there are now: Datasette's own list may be a second old, and an embed faster.

    Asked several times in a request, so that it is read anew only once the file has changed.
    """
    state = files.state_with_log(db.path)
    known = _known.get(db)
    if known is not None and state is not None and known[0] == state:
        return known[1]
    try:
        found = await db.execute(
            "select name from sqlite_master where type = 'table' and name glob 'image_search_*'"
        )
    except sqlite3.Error:  # what cannot be read shows nothing, and others are asked about too
        return []
    names = [name for (name,) in found.rows if is_one(name)]
    _known[db] = (state, names)
    return names
