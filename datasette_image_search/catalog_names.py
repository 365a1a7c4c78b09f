"""The names of the catalog's tables, for those too who never pay for the catalog itself."""

from __future__ import annotations

import re

FIXED = (
    "image_search_migrations",
    "image_search_folders",
    "image_search_collections",
    "image_search_pictures",
)
_NAME = re.compile(rf"{'|'.join(FIXED)}|image_search_rows_\d+", re.ASCII | re.IGNORECASE)


def is_ours(name: str) -> bool:
    """Is it the name of a table of the catalog, in any case of letters?"""
    return _NAME.fullmatch(name) is not None
