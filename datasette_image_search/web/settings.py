"""The plugin's configuration, the same keys at instance, database and table level."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, fields, replace

from ..errors import UsageError
from ..wording import shortened
from . import versions

PLUGIN = "datasette-image-search"
log = logging.getLogger("datasette_image_search")
# Of one server there is one, whatever the table.
_INSTANCE_ONLY = ("max_uploads",)
_MOST = {"max_k": 10_000}  # as for the SQL functions


@dataclass(frozen=True)
class Settings:
    """``allow_upload`` is an allow block; the rest are positive whole numbers."""

    max_upload_bytes: int = 20_000_000
    max_k: int = 200
    allow_upload: bool | dict = True
    upload_timeout: int = 120  # seconds within which all of a picture must be here
    upload_seconds: int = 3600  # how long an uploaded picture is remembered
    max_uploads: int = 500  # how many are; beyond, the oldest goes


def settings(datasette, database: str | None = None, table: str | None = None) -> Settings:
    """What holds for a table: its own level before the database's before the instance's.

    Each key falls back by itself, which ``plugin_config(fallback=True)`` does not do.
    Raises :class:`UsageError` naming the place of a key or a value that makes no sense.
    """
    merged = _level(datasette, Settings())
    if database is not None:
        merged = _level(datasette, merged, database)
    if table is not None:
        merged = _level(datasette, merged, database, table)
    return merged


def megabytes(count: int) -> str:
    """20,000,000 → ``20 MB``."""
    return f"{count / 10**6:,.3f}".rstrip("0").rstrip(".") + " MB"


def check(datasette) -> None:
    """Look at all settings, the tables' too, before anybody comes.

    Raises :class:`UsageError` for the first that makes no sense or is in a wrong place.
    """
    configuration = versions.configuration(datasette)
    _check_place(configuration)
    settings(datasette)
    for database, of_database in _named(configuration, "databases"):
        _check_place(of_database, database)
        settings(datasette, database)
        for table, of_table in _named(of_database, "tables"):
            _check_place(of_table, database, table)
            settings(datasette, database, table)


async def warn_of_strange_names(datasette) -> None:
    """Say which settings hold for nothing: a name that is mistyped protects no table.

    A warning, since a database may come later; and it keeps no server from starting that a
    database cannot be read. Nothing is opened where no table has settings of its own.
    """
    databases = list(datasette.databases)
    for database, of_database in _named(versions.configuration(datasette), "databases"):
        tables = [table for table, of_table in _named(of_database, "tables") if _has_ours(of_table)]
        if database not in databases:
            if tables or _has_ours(of_database):
                _warn(databases, database)
        elif tables:
            db = datasette.databases[database]
            try:
                there = [*await db.table_names(), *await db.view_names()]
            except Exception as error:  # Datasette tells whoever asks for the database
                log.debug("the tables of %s are not known: %s", database, error)
                continue
            for table in tables:
                if table not in there:
                    _warn(there, database, table)


def _has_ours(level: dict) -> bool:
    """Are there settings of this plugin's at this level, or permissions to use it?"""
    plugins, permissions = level.get("plugins"), level.get("permissions")
    return (isinstance(plugins, dict) and bool(plugins.get(PLUGIN))) or (
        isinstance(permissions, dict) and versions.UPLOAD in permissions
    )


def _warn(there: list[str], *names: str) -> None:
    from difflib import get_close_matches  # for those who have mistyped something

    folded = {name.casefold(): name for name in there}
    near = get_close_matches(str(names[-1]).casefold(), folded, 1)
    nearest = f", the nearest is {folded[near[0]]!r}" if near else ""
    log.warning(
        "the configuration of %s%s holds for nothing: there is no such %s%s.",
        PLUGIN, _where(*names), "database" if len(names) == 1 else "table", nearest,
    )  # fmt: skip


def _named(level: dict, key: str) -> list[tuple[str, dict]]:
    found = level.get(key)
    pairs = found.items() if isinstance(found, dict) else ()
    return [(name, below) for name, below in pairs if isinstance(below, dict)]


def _check_place(level: dict, *names: str) -> None:
    """What is not where plugins are configured would be passed over in silence."""
    permissions = level.get("permissions")
    ignored = isinstance(permissions, dict) and not versions.READS_PERMISSIONS
    if ignored and versions.UPLOAD in permissions:
        # No mistake where another plugin reads them.
        log.warning(
            "the configuration%s has 'permissions: %s', which Datasette reads from 1.0 on: "
            "'plugins: %s: allow_upload' says here who may.",
            _where(*names), versions.UPLOAD, PLUGIN,
        )  # fmt: skip
    mistaken = PLUGIN.replace("-", "_")
    plugins = level.get("plugins")
    wrong = [name for name in (PLUGIN, mistaken) if name in level]
    if isinstance(plugins, dict) and mistaken in plugins:
        wrong.append(f"plugins: {mistaken}")
    if wrong:
        where = _where(*names) or " for the instance"
        raise UsageError(
            f"the configuration{where} has {wrong[0]!r}: "
            f"the settings of this plugin belong under 'plugins: {PLUGIN}'."
        )


def _where(*names: str) -> str:
    if not names:
        return ""
    return f" for the {'database' if len(names) == 1 else 'table'} {'/'.join(map(str, names))}"


def _level(datasette, above: Settings, *names: str) -> Settings:
    """``above``, with what is set for the instance, a database or a table."""
    found = datasette.plugin_config(PLUGIN, *names, fallback=False)
    if found is None:
        return above
    place = f"the configuration of {PLUGIN}{_where(*names)}"
    if not isinstance(found, dict):
        raise UsageError(f"{place} must be keys with values, not {_shown(found)}.")
    known = [field.name for field in fields(Settings)]
    for key, value in found.items():
        if key not in known:
            raise UsageError(f"{place} has {key!r}, which there is not: {', '.join(known)}.")
        if names and key in _INSTANCE_ONLY:
            raise UsageError(f"{place} has {key}, which can be set for the whole instance only.")
        shown = _shown(value)
        if key == "allow_upload":
            if not isinstance(value, (bool, dict)):
                raise UsageError(
                    f"{place}: allow_upload must be true, false or an allow block, not {shown}."
                )
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{place}: {key} must be a whole number above 0, not {shown}.")
        elif value > _MOST.get(key, value):
            raise UsageError(f"{place}: {key} must be at most {_MOST[key]:,}, not {value:,}.")
    return replace(above, **found)


def _shown(value) -> str:
    """As a configuration file has it, not as Python does."""
    return shortened(json.dumps(value, ensure_ascii=False, default=str))
