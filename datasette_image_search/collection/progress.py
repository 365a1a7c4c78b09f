"""How far long work has come, for whoever shows it."""

from __future__ import annotations


class Progress:
    """Told what is begun and how far it has come; this one keeps it to itself.

    The command line draws a bar.
    """

    def tell(self, sentence: str) -> None: ...
    def start(self, total: int) -> None: ...
    def advance(self, rows: int) -> None: ...
