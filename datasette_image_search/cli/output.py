"""What goes to stdout, whatever characters its encoding has."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click


def show_what_can_be_shown() -> None:
    """From here on, what stdout's encoding has no character for is a question mark.

    Windows gives a file the encoding of the country, which lacks most of the others'.
    """
    for name in ("stdout", "stderr"):  # closed (`>&-`), or there is none (a service on Windows)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    if hasattr(sys.stdout, "reconfigure"):
        # A file that has become a pipe since Python began looks as if it had places still.
        with suppress(OSError):
            sys.stdout.reconfigure(errors="replace")


def write_data(text: str) -> None:
    """JSON or CSV: for a file or a program in UTF-8, to the byte; on a terminal as text."""
    if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):
        click.echo(text, nl=False)
    else:
        click.echo(text.encode(), nl=False)
