"""Making what comes from data fit for a sentence, a log and a terminal."""

from __future__ import annotations

import re
import shlex

# Control characters (an escape sequence can move a terminal's cursor, and more), line
# separators, marks that turn the direction of writing, and halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def shortened(text: str, most: int = 200) -> str:
    """``text`` at a length that fits into a sentence."""
    return text if len(text) <= most else f"{text[:most]}…"


def visible(text: str) -> str:
    """``text`` on one line, with what acts but is not seen written out: ``\\x1b``, ``\\u202e``."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def decoded(raw: bytes) -> str:
    """Text from a database, as Datasette has it: what is no UTF-8 is shown as far as it is."""
    return raw.decode(errors="replace")


def command_line(*words: object) -> str:
    """A command of ours in quotation marks that are none of a shell's, to be pasted as it is."""
    line = shlex.join(["datasette", "image-search", *map(str, words)])
    return f"`{line}`" if "'" in line else f"'{line}'"


def free_names(names, taken) -> list[str]:
    """Our ``names`` beside a table's columns: each with a ``_`` before it as long as it is
    one of those that are ``taken``. What a user's column holds is not lost."""
    free = []
    for name in names:
        while name in taken:
            name = f"_{name}"
        free.append(name)
    return free


def sql_text(value: str) -> str:
    """A text as it stands in SQL that people read or run."""
    return "'{}'".format(value.replace("'", "''"))
