"""What names a row, from one value: the key of one column, or of several."""

from __future__ import annotations

import json

from ..errors import UsageError


def parse_key(argument, key_columns: tuple[str, ...], table: str) -> tuple:
    """A key from one value; of several columns from a row path as Datasette shows it (``a,b``),
    or a JSON array as SQLite's ``json_array(a, b)`` makes it."""
    if len(key_columns) == 1:
        return (argument,)
    from datasette.utils import tilde_decode

    listed = _listed(argument)
    if len(listed) == len(key_columns):
        return listed
    parts = str(argument).split(",")
    if len(parts) != len(key_columns):
        raise UsageError(
            f"a row of {table!r} is named by {','.join(key_columns)}: "
            f"{len(key_columns)} values with a comma between, not {argument!r}."
        )
    return tuple(tilde_decode(part) for part in parts)


def _listed(argument) -> tuple:
    """The values in a JSON array; none where it is something else. No row path is one: in those
    a bracket is written ``~5B``."""
    if not isinstance(argument, str) or not argument.startswith("["):
        return ()
    try:
        values = json.loads(argument)
    except (ValueError, RecursionError):
        return ()
    return tuple(values) if all(map(_can_be_key, values)) else ()


def _can_be_key(value) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and -(2**63) <= value < 2**63
    return isinstance(value, float) or (isinstance(value, str) and _is_text(value))


def _is_text(value: str) -> bool:
    """JSON has half characters too, which nothing else has."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
