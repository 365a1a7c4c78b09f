"""Vectors that rows should have and the sidecar has not: an older file was put back, or a newer
database beside it. What is found then is right, and may be less than there is."""

from __future__ import annotations

from pathlib import Path

from ..catalog import CollectionRecord, Rows
from ..vector_index import Sidecar
from ..wording import command_line


def count_lost(rows: Rows, index: Sidecar) -> int:
    """How many pictures that rows have are without a vector."""
    return int((~index.contains(rows.pictures_in_use())).sum())


_said: dict[Path, int] = {}  # of a sidecar, how many were told of last


def is_news(sidecar: Path, count: int) -> bool:
    """Has this process not told of so many last? They are counted anew with each change."""
    before = _said.pop(sidecar, 0)
    _said[sidecar] = count
    if len(_said) > 1000:
        del _said[next(iter(_said))]
    return before != count


def told(database: Path | str, record: CollectionRecord, count: int) -> str:
    """That so many pictures of a collection have lost theirs, and what helps."""
    return (
        f"{count:,} pictures of {record.name!r} have to be embedded again: "
        f"run {command_line('embed', database, record.name)}."
    )
