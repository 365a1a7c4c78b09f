"""The user's own table as the catalog sees it: its columns, and what names a row."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from string import ascii_uppercase

from ..errors import NotFound, UsageError

PREFIX = "image_search_"


def refuse_reserved(name: str) -> None:
    """Raises :class:`UsageError` for a name that the catalog's tables have, or may come to have."""
    if same_name(name[: len(PREFIX)], PREFIX):
        raise UsageError(f"tables named {PREFIX}… are the catalog's own: choose another.")


def quote(name: str) -> str:
    """A name as an SQL identifier, whatever characters are in it."""
    return '"{}"'.format(name.replace('"', '""'))


def same_name(one: str, other: str) -> bool:
    """As SQLite compares names: ``a`` is ``A``, but ``ä`` and ``Ä`` are two tables."""
    return one == other or one.translate(_FOLDED) == other.translate(_FOLDED)


_FOLDED = {ord(letter): letter.lower() for letter in ascii_uppercase}


@dataclass(frozen=True)
class Table:
    """A table with its columns (name → declared type) and the columns of its key.

    ``keys`` is ``("rowid",)`` for a table without a primary key of its own; ``strict`` is
    whether SQLite keeps it to its types.
    """

    name: str
    columns: dict[str, str]
    keys: tuple[str, ...]
    strict: bool = False

    @classmethod
    def read(cls, conn: sqlite3.Connection, name: str) -> Table:
        """Look ``name`` up; raises :class:`NotFound`, or :class:`UsageError` for a view."""
        found = conn.execute(
            "select name, type from main.sqlite_master "
            "where type in ('table', 'view') and name = ? collate nocase",
            (name,),
        ).fetchone()
        if found is None:
            raise NotFound(
                f"there is no table {name!r} in {database_name(conn)}; "
                f"there {_listing(table_names(conn))}."
            )
        if found[1] == "view":
            raise UsageError(
                f"{name!r} is a view: its rows have no key to remember them by; "
                "use the table behind it."
            )
        info = conn.execute(f"pragma main.table_xinfo({quote(found[0])})").fetchall()
        info = [row for row in info if row[6] != 1]  # 1: a virtual table's own; others: generated
        keys = tuple(row[1] for row in sorted(info, key=lambda row: row[5]) if row[5])
        if not keys and any(same_name(row[1], "rowid") for row in info):
            raise UsageError(
                f"{found[0]!r} has no primary key, and a column called rowid in the place of "
                "SQLite's own: its rows cannot be told apart; give it a primary key."
            )
        # Nothing before SQLite 3.37, which has no such tables.
        listed = conn.execute(f"pragma main.table_list({quote(found[0])})").fetchone()
        strict = bool(listed and listed[5])
        return cls(found[0], {row[1]: row[2] for row in info}, keys or ("rowid",), strict)

    def column(self, name: str) -> str:
        """The column's own spelling; raises :class:`NotFound`."""
        for column in self.columns:
            if same_name(column, name):
                return column
        raise NotFound(
            f"table {self.name!r} has no column {name!r}; there {_listing(list(self.columns))}."
        )

    @property
    def key_types(self) -> list[str]:
        """The types of columns that shall tell apart what those of the key do.

        No type is another than ``ANY``, but the same as ``ANY`` in a STRICT table: columns of
        other types take '007' for 7.
        """
        declared = [self.columns.get(key, "INTEGER") for key in self.keys]
        return ["" if self.strict and kind.upper() == "ANY" else kind for kind in declared]


def compares_as(declared: str) -> str:
    """What a column of that type makes of '007': the "text" it is, the "number" 7, or what the
    value asked with is ("any"). SQLite's rules of affinity, in their order."""
    kind = declared.upper()
    if "INT" in kind:
        return "number"
    if any(part in kind for part in ("CHAR", "CLOB", "TEXT")):
        return "text"
    return "any" if not kind or "BLOB" in kind else "number"


def table_names(conn: sqlite3.Connection) -> list[str]:
    """The tables that are the user's own."""
    names = conn.execute("select name from main.sqlite_master where type = 'table' order by name")
    return [n for (n,) in names if not n.startswith((PREFIX, "sqlite_"))]


def database_path(conn: sqlite3.Connection) -> str:
    """The file of the connection's main database, ``""`` when it is in memory."""
    for _, name, path in conn.execute("pragma database_list"):
        if name == "main":
            return path or ""
    return ""


def database_name(conn: sqlite3.Connection) -> str:
    return database_path(conn).replace("\\", "/").rpartition("/")[2] or "this database"


def _listing(names: list[str], most: int = 12) -> str:
    if not names:
        return "are none"
    shown = ", ".join(names[:most]) + (", …" if len(names) > most else "")
    return f"{'is' if len(names) == 1 else 'are'} {shown}"
