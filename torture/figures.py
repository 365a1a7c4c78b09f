"""What a check has found: a table of figures, each good or not."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table; ``good`` is None for what is only told."""

    what: str
    value: str
    good: bool | None = None

    def __str__(self) -> str:
        mark = {True: "pass", False: "FAIL", None: ""}[self.good]
        value = " ".join(self.value.split()).replace("|", "\\|")
        return f"| {self.what} | {value} | {mark} |"


def exactly(what: str, found, expected) -> Figure:
    value = f"{found}" if found == expected else f"{found}, not {expected}"
    return Figure(what, value, found == expected)


def none_of(what: str, found: list | Counter, of: int | None = None) -> Figure:
    """Good where ``found`` is empty; else its first members are shown. Of nothing that was
    looked at, nothing is known: not good either."""
    count = sum(found.values()) if isinstance(found, Counter) else len(found)
    value = f"{count:,}" if of is None else f"{count:,} of {of:,}"
    if count:
        shown = found.most_common(3) if isinstance(found, Counter) else list(found)[:3]
        value += ": " + "; ".join(" ".join(str(one).split())[:300] for one in shown)
    return Figure(what, value, count == 0 and of != 0)


def at_most(what: str, found: float, most: float, unit: str = "") -> Figure:
    return Figure(what, f"{found:,.4g}{unit} (at most {most:,.4g}{unit})", found <= most)


class Said:
    """Progress on stderr: one line a second at most."""

    def __init__(self, name: str):
        self._name = name
        self._began = self._last = time.monotonic()

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now - self._last >= 1:
            self._last = now
            print(f"{self._name} {now - self._began:5.0f} s  {text}", file=sys.stderr, flush=True)
