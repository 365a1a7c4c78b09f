"""How far a long command has come."""

from __future__ import annotations

import sys
from time import monotonic

import click

from ..wording import visible

_SECONDS = 10  # between two plain lines


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
        click.echo(visible(f"{self._label} {sentence}"), err=True)

    def start(self, total: int) -> None:
        self._total, self._done = total, 0
        self._began = monotonic()
        self._next_line = self._began + _SECONDS
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
        if self._bar is not None:
            self._bar.update(rows)
        elif monotonic() >= self._next_line:
            self._next_line = monotonic() + _SECONDS
            left = (self._total - self._done) / max(self._speed(), 1e-9)
            click.echo(
                f"{self._label}: {self._done:,} of {self._total:,}, {self._rate()}, "
                f"{left:.0f} s left",
                err=True,
            )

    def _speed(self) -> float:
        return self._done / max(monotonic() - self._began, 1e-9)

    def _rate(self) -> str:
        return f"{self._speed():.1f}/s"
