"""What a row is called where it is shown: by its label, or else by its key."""

from __future__ import annotations

from ..wording import shortened
from . import links

_LONGEST = 100  # what a heading can have, and the captions beside each other


def of_row(named: object, key: tuple) -> str:
    """``named`` is what the row has in the column by which Datasette calls it, or None."""
    text = "" if named is None or isinstance(named, bytes) else str(named)
    for words in (text, ", ".join(map(str, key))):
        label = cut(words.strip())
        if any(c.isprintable() and c != " " for c in label):
            return label
    # Blanks make a link that nobody finds.
    return f"row {cut(links.row_path(key)) or 'with an empty key'}"


def cut(text: str) -> str:
    return shortened(text, _LONGEST)
