"""The end of a sidecar file: what is where in it, as JSON with a checksum of its own."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

from ..errors import SidecarDamaged, SidecarMismatch
from . import engine
from .identity import Identity

FORMAT = 2
MAGIC = b"dsimgsr1"
_TAIL = struct.Struct("<II8s")


def packed(**facts) -> bytes:
    """What ends a file: the footer, its length, its checksum and the mark."""
    footer = json.dumps({"format": FORMAT, **facts}).encode()
    return footer + _TAIL.pack(len(footer), zlib.crc32(footer), MAGIC)


def read(path: Path, file) -> dict:
    """The footer of an open file, once its own checksum has been found right."""
    size = file.seek(0, os.SEEK_END)
    if size < _TAIL.size:
        raise damaged(path, f"it has {size} bytes, fewer than the end mark alone")
    file.seek(size - _TAIL.size)
    length, checksum, magic = _TAIL.unpack(file.read(_TAIL.size))
    if magic != MAGIC:
        raise damaged(path, f"its last eight bytes are {magic!r}, not {MAGIC!r}")
    if length + _TAIL.size > size:
        raise damaged(path, f"its footer would have {length} bytes in a file of {size}")
    file.seek(size - _TAIL.size - length)
    raw = file.read(length)
    if zlib.crc32(raw) != checksum:
        raise damaged(path, "its footer does not match its checksum")
    footer = json.loads(raw)
    if not isinstance(footer, dict):
        raise damaged(path, "its footer is not what one is")
    if footer.get("format") != FORMAT or footer.get("kind") not in engine.KINDS:
        raise SidecarMismatch(
            f"{path.name} has format {footer.get('format')} and kind {footer.get('kind')!r}; this "
            f"version of datasette-image-search reads format {FORMAT} and kinds "
            f"{', '.join(engine.KINDS)}: use the version that wrote it, or run "
            "'datasette image-search repair' on the database and embed again."
        )
    _check_numbers(path, footer)
    expected = content(footer) + length + _TAIL.size
    if expected != size:
        raise damaged(path, f"it has {size} bytes where {expected} were written")
    return footer


def _check_numbers(path: Path, footer: dict) -> None:
    """A stranger's footer is right by its checksum, and may have anything in it."""

    def whole(value, least: int = 0, most: float = 2**62) -> bool:
        return isinstance(value, int) and least <= value <= most

    get = footer.get
    for name in ("count", "faiss_bytes", "vectors_at", "tables_at"):
        if not whole(get(name)):
            raise damaged(path, f"its footer has {get(name)!r} for {name}")
    scale, count, parts = get("scale"), footer["count"], get("always")
    blocks = -(-content(footer) // get("block")) if whole(get("block"), 1) else None
    sound = (
        isinstance(get("identity"), dict)
        and whole(get("learnt_from", 0))
        and isinstance(scale, float | int)
        and 0 < scale < float("inf")
        and _all(get("zeros", []), lambda value: whole(value, most=count - 1))
        and _all(parts, lambda part: _all(part, whole) and len(part) == 3)
        and _all(get("crc32"), whole)
        and len(footer["crc32"]) == blocks
    )
    if not sound:
        raise damaged(path, "its footer has numbers that cannot be")


def _all(values, rule) -> bool:
    return isinstance(values, list) and all(map(rule, values))


def content(footer: dict) -> int:
    """The bytes before the footer."""
    return footer["tables_at"] + 16 * footer["count"]


def identity_of(path: Path, footer: dict) -> Identity:
    try:
        return Identity(**footer["identity"])
    except TypeError:
        raise damaged(path, "its footer does not say what made its vectors") from None


def damaged(path: Path, what: str) -> SidecarDamaged:
    return SidecarDamaged(
        f"{path.name} is damaged: {what}; 'datasette image-search repair' mends what can be mended."
    )
