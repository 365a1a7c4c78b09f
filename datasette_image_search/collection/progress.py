"""How far long work has come, for whoever shows it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far it has come; the command line draws a bar."""

    def start(self, total: int) -> None: ...
    def advance(self, rows: int) -> None: ...


class Silent:
    def start(self, total: int) -> None: ...
    def advance(self, rows: int) -> None: ...
