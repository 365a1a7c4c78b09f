"""What ``embed`` says at its end, and what to do where nothing came of it."""

from __future__ import annotations

import re
from collections import Counter

import click

from .. import catalog
from ..errors import ImageSearchError
from ..wording import command_line, visible

_LOOKED_AT = 100
# What in two reasons differs though they are the same: names in quotation marks, URLs, numbers.
_PARTICULARS = re.compile(r"""'[^']*'|"[^"]*"|https?://\S+|[\w.-]+(?= is at the)|\d""")


def tell(database, name: str, summary) -> None:
    """``name`` is what the collection was called by. Raises where not one row could be read."""
    click.echo(f"{summary}.")
    if summary.failed:
        said = f"{command_line('status', database)} tells what failed"
        click.echo(visible(f"{said}{_for_example(database, name)}"), err=True)
    elif not (summary.embedded or summary.reused or summary.unchanged):
        said = f"No row has anything in the column {summary.column!r}: --column names another."
        click.echo(visible(said), err=True)
    if summary.all_failed:
        folder = ", or another folder with --root" if summary.folder else ""
        raise ImageSearchError(
            f"not one picture of {summary.column!r} could be read: name another column with "
            f"--column{folder}{_how_to_forget(database, name)}."
        )


def _for_example(database, name: str) -> str:
    """A row that failed for the reason that most have: what is at fault is often one thing, and
    the first row may be a cell with "n/a"."""
    with catalog.opened(database) as conn:
        record = catalog.find(conn, name)
        failures = [] if record is None else catalog.SeenRows(conn, record).failures(_LOOKED_AT)
    kinds = [_PARTICULARS.sub("", reason) for _, reason in failures]
    if not kinds:
        return "."
    key, reason = failures[kinds.index(Counter(kinds).most_common(1)[0][0])]
    return f", for example row {','.join(map(str, key))}: {reason}"


def _how_to_forget(database, name: str) -> str:
    """Nothing is lost with a collection that has no picture."""
    with catalog.opened(database) as conn:
        record = catalog.find(conn, name)
        if record is None or catalog.Rows(conn, record).has_pictures():
            return ""
    return f"; {command_line('forget', database, record.name)} removes the collection"
