"""A database whose every name and value tries to be something else."""

from __future__ import annotations

import os
from pathlib import Path

import sqlite_utils
from conftest import draw

TEXTS = [
    "<script>alert('value')</script>",
    "\"><img src=x onerror=alert('attribute')>",
    "'\"`\\ ' onmouseover='alert(1)",
    "line\nbreak\r\nSet-Cookie: hostile=1",
    "%0d%0aSet-Cookie:%20hostile=1",
    "../../etc/passwd",
    "javascript:alert('url')",
    "https://x/\" onclick=\"alert('link')",
    "\u202egnp.terces\u2066",
    "😀👩‍👩‍👧 袋",
    "]]><!--",
    "{{7*7}}{% raise %}${7*7}",
    "\x1b[31mred\x1b]0;title\x07\x9b2J\x7f\x01",
    "a/b,c~d.e?f#g&h=i+j;k",
    "</title></style></textarea><svg onload=alert('end')>",
    "x" * 700,
    " ",
    "__proto__",
]
TABLE = "<img src=x onerror=alert('table')>\"'{{7*7}} \u202e~,.%0d%0a"
KEY = "<b onclick=alert('key')>\"'"
LABEL = "<i>title \x1b[31m"
PICTURE = "<script>alert('column')</script>\"'"
COLLECTION = "</title><script>alert('collection')</script>\"'\r\nX: y\x1b[31m \u202e"
DATABASE = "<svg onload=alert('database')>\"'{{7*7}}"
ENDINGS = ("red", "green", "blue", "yellow", "black", "pink")


def build(folder: Path) -> Path:
    """The database's path: a table with each text as a key, one of pairs, one of files."""
    from datasette_image_search.collection import EmbedOptions, embed

    folder.mkdir()
    names = []
    for number, text in enumerate(TEXTS):
        name = f"{number} {text[:40].replace('/', ' ')}.png"
        draw("disc", ENDINGS[number % 6], (40 + number, 40)).save(folder / "plain.png")
        os.rename(folder / "plain.png", folder / name)
        names.append(name)
    path = folder / f"{DATABASE}.db"
    db = sqlite_utils.Database(path)
    rows = [{KEY: t, LABEL: t, PICTURE: n} for t, n in zip(TEXTS, names, strict=True)]
    db[TABLE].insert_all(rows, pk=KEY)
    pairs = [{"a<b": t, KEY: t, PICTURE: n} for t, n in zip(TEXTS, names, strict=True)]
    db["pairs"].insert_all(pairs, pk=("a<b", KEY))
    db["files"].insert_all([{"path": n, LABEL: "<b>"} for n in names], pk="path")
    broken = [{KEY: t, PICTURE: t} for t in TEXTS if t.strip()]
    db["broken"].insert_all([*broken, {KEY: "good", PICTURE: names[0]}], pk=KEY)
    db.conn.close()
    for table, column in (
        (TABLE, PICTURE),
        ("pairs", PICTURE),
        ("files", "path"),
        ("broken", PICTURE),
    ):
        embed(path, table, EmbedOptions(model="resnet18", column=column))
    embed(path, TABLE, EmbedOptions(model="resnet18", column=PICTURE, collection=COLLECTION))
    return path
