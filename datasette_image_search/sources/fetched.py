"""What paths and URLs have in common: what was read, how much, how it is named."""

from __future__ import annotations

from dataclasses import dataclass

from ..wording import shortened

MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Fetched:
    """A source's bytes, or None where it has not changed; and its fingerprint now."""

    data: bytes | None
    fingerprint: str


def quoted(value: object) -> str:
    """``value`` in quotation marks for a sentence: on one line, and not too long."""
    return repr(shortened(value)) if isinstance(value, str) else shortened(repr(value))


def too_large(what: str, size: int) -> str:
    return f"{what} has {size:,} bytes or more; {MAX_BYTES:,} are the most that are read."
