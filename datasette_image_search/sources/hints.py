"""Why what a cell holds is no file: the likely cause, where spreadsheets and pages leave one.

Nothing here is guessed at and read all the same: whoever made the table knows what is meant.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from urllib.parse import unquote

from ..wording import shortened

_ENDING = r"\.(?:jpe?g|png|gif|webp|tiff?|bmp|avif|heic)"
_ENDS = re.compile(_ENDING, re.IGNORECASE)
_ENDS_AND_GOES_ON = re.compile(rf"{_ENDING}[\"']?[^\S\r\n]*[,;|\r\n]", re.IGNORECASE)
_SEVERAL_URLS = re.compile(r"[,;|\s]https?://", re.IGNORECASE)
_HTML = re.compile(r"<(img|a|picture|figure)\b", re.IGNORECASE)
_DATA_URI = re.compile(r"data:[\w./+-]*(;[\w=-]+)*,", re.IGNORECASE)
# How the base64 of a JPEG, PNG, GIF and WebP begins; no path is so long without a dot.
_BASE64 = re.compile(r"(/9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/\s]{40,}")
_QUOTED = re.compile(r"""(["'])((?!\1).)+\1""")
_DRIVE = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)
_NO_SCHEME = re.compile(r"//[\w-]+(\.[\w-]+)+/|www\.[\w-]+\.", re.IGNORECASE)
_BEHIND = re.compile(rf"[^?#]+{_ENDING}([?#].*)", re.IGNORECASE | re.DOTALL)
_ESCAPED = re.compile("%[0-9a-f]{2}", re.IGNORECASE)
_MOST_NAMES = 50_000
_LOOKED_AT = 2_000  # characters: a cell may be a book, and nobody waits for a guess


def likely_cause(value: str) -> str | None:
    """A sentence about what ``value`` is instead of a path, if it looks like something."""
    text = value.strip()[:_LOOKED_AT]
    said = repr(shortened(text, 40))
    if _HTML.match(text):
        return f"{said} looks like HTML: put what its src says into the column, and nothing else."
    if text.startswith("="):
        return f"{said} looks like a spreadsheet's formula: put the address in it into the column."
    if _DATA_URI.match(text) or _BASE64.match(text):
        return (
            f"{said} looks like a picture written out as text: "
            "put its bytes (a BLOB), its URL or the path of its file into the column."
        )
    if text.lower().startswith("file:"):
        return f"{said} is a URL of a file: put the file's path into the column."
    if _QUOTED.fullmatch(text):
        return f"{said} has quotation marks around it: leave them out."
    if _DRIVE.match(text) or text.startswith("~/"):
        what = "a drive, as on Windows" if text[1] == ":" else "~, which only a shell knows"
        return (
            f"{said} begins with {what}: "
            "write the path as it is below the pictures' folder (--root)."
        )
    if text.startswith(("[", "{")) and text.endswith(("]", "}")):
        return "the cell looks like JSON: put one path or one URL into each row."
    first = _ENDS_AND_GOES_ON.search(text)
    if first and _ENDS.search(text, first.end()):
        return "the cell names more than one picture: put one into each row."
    if found := _NO_SCHEME.match(text):
        missing = "https:" if found[0].startswith("//") else "https://"
        return f"{said} looks like a URL without its beginning: write {missing} before it."
    if found := _BEHIND.fullmatch(text):
        behind = repr(shortened(found[1], 40))
        return f"{said} has {behind} behind the file's name, as a URL has: leave that out."
    if _ESCAPED.search(text) and unquote(text) != text:
        escape = _ESCAPED.search(text)[0]
        return f"{said} is written as in a URL ({escape}): write the file's name as it is."
    return None


def about_several_urls(value: str) -> str | None:
    """As :func:`likely_cause` of a URL, which may hold a password and is not shown."""
    if _SEVERAL_URLS.search(value.strip()[:_LOOKED_AT]):
        return "the cell names more than one URL: put one into each row."
    return None


def names_in(folder: str) -> dict[str, str]:
    """The names in a folder by what they are without capitals; of a vast one, the first."""
    try:
        with os.scandir(folder) as found:
            return {entry.name.casefold(): entry.name for entry in islice(found, _MOST_NAMES)}
    except OSError:
        return {}
