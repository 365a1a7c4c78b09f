"""Vectors that rows should have and the sidecar has not: an older file was put back, or a newer
database beside it. What is found then is right, and may be less than there is."""

from __future__ import annotations

from pathlib import Path

from ..catalog import CollectionRecord, Rows
from ..vector_index import Sidecar
from ..wording import command_line

# Among so many pictures a search looks for lost ones: it must not take long, and hundreds of
# thousands that are lost show among few.
_MOST = 10_000


def count_lost(rows: Rows, index: Sidecar) -> int:
    """How many pictures that rows have are without a vector: goes through all of them."""
    return int((~index.contains(rows.pictures_in_use())).sum())


def any_lost(rows: Rows, index: Sidecar) -> bool:
    """Is one of the rows' first pictures without a vector? Where there are fewer vectors than a
    search asks for, that is whether there are more matches than it can find."""
    return not index.contains(rows.pictures_in_use(min(len(index) + 1, _MOST))).all()


_said: dict[Path, int] = {}  # of a sidecar, with how many vectors it was told of last


def is_news(index: Sidecar) -> bool:
    """Has this process not told of the sidecar as it is? By the number of its vectors."""
    before = _said.pop(index.path, None)
    _said[index.path] = len(index)
    if len(_said) > 1000:
        del _said[next(iter(_said))]
    return before != len(index)


def some_told(database: Path | str, record: CollectionRecord, index: Sidecar) -> str:
    """As :func:`told`, of a number that it would take too long to count."""
    return (
        f"pictures of {record.name!r} have to be embedded again, as {index.path.name} lacks their "
        f"vectors: run {command_line('embed', database, record.name)}."
    )


def told(database: Path | str, record: CollectionRecord, count: int) -> str:
    """That so many pictures of a collection have lost theirs, and what helps."""
    return (
        f"{count:,} pictures of {record.name!r} have to be embedded again: "
        f"run {command_line('embed', database, record.name)}."
    )
