"""Our stylesheet and script, on the pages that need them and no others."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from . import collections

_STATIC = Path(__file__).parent.parent / "static"
_OWN_PAGES = ("image_search", "image_search_collections")


async def css(datasette, view_name: str | None, database: str | None, table: str | None) -> list:
    """Our own pages, and the pages of tables that have a collection."""
    needed = view_name in _OWN_PAGES
    if view_name in ("table", "row") and database and table:
        db = datasette.get_database(database)
        needed = bool(await collections.known_of_table(db, table))
    return [_url("image-search.css")] if needed else []


def js(view_name: str | None) -> list:
    return [{"url": _url("image-search.js"), "module": True}] if view_name == "image_search" else []


@lru_cache
def _url(name: str) -> str:
    # Without base_url: Datasette puts it in front. The digest lets a new file be seen.
    digest = sha256((_STATIC / name).read_bytes()).hexdigest()[:8]
    return f"/-/static-plugins/datasette-image-search/{name}?v={digest}"
