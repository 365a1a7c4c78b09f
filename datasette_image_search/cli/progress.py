"""How far a long command has come."""

from __future__ import annotations

import sys
from collections import deque
from time import monotonic

import click

from ..wording import visible

_SECONDS = 10  # between two plain lines
_LINES = 4  # whose time the rate is of


class Bar:
    """Progress: a bar on a terminal, a plain line now and then elsewhere. A context manager."""

    def __init__(self, label: str):
        self._label = label
        self._bar = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)

    def tell(self, sentence: str) -> None:
        if self._bar is not None:
            click.echo(err=True)  # the bar's own line stays, and it goes on below
        click.echo(visible(f"{self._label} {sentence}"), err=True)

    def start(self, total: int) -> None:
        self._total, self._done = total, 0
        # (when, how many were done) at the last lines: some rows take far longer than others
        self._marks = deque([(monotonic(), 0)], maxlen=_LINES)
        self._next_line = monotonic() + _SECONDS
        if sys.stderr.isatty():
            self._bar = click.progressbar(
                length=total,
                label=self._label,
                file=sys.stderr,
                show_pos=True,
                item_show_func=lambda _: self._rate(),
                update_min_steps=max(1, total // 1000),
            )
            self._bar.__enter__()

    def advance(self, rows: int) -> None:
        self._done += rows
        is_due = monotonic() >= self._next_line
        if self._bar is not None:
            self._bar.update(rows)
        elif is_due:
            left = _time((self._total - self._done) / max(self._speed(), 1e-9))
            click.echo(
                f"{self._label}: {self._done:,} of {self._total:,}, {self._rate()}, "
                f"about {left} left",
                err=True,
            )
        if is_due:
            self._next_line = monotonic() + _SECONDS
            self._marks.append((monotonic(), self._done))

    def _speed(self) -> float:
        began, done = self._marks[0]
        return (self._done - done) / max(monotonic() - began, 1e-9)

    def _rate(self) -> str:
        return f"{self._speed():.1f}/s"


def _time(seconds: float) -> str:
    """As people say it: 40 s, 27 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
