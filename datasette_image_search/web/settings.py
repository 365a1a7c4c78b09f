"""The plugin's configuration, the same keys at instance, database and table level."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ..errors import UsageError

PLUGIN = "datasette-image-search"


@dataclass(frozen=True)
class Settings:
    """``allow_upload`` is an allow block; the rest are positive whole numbers."""

    max_upload_bytes: int = 20_000_000
    max_k: int = 200
    allow_upload: bool | dict = True
    upload_seconds: int = 3600  # how long an uploaded picture is remembered
    max_uploads: int = 500  # how many are; beyond, the oldest goes


def settings(datasette, database: str | None = None, table: str | None = None) -> Settings:
    """What holds for a table: its own level before the database's before the instance's.

    Each key falls back by itself, which ``plugin_config(fallback=True)`` does not do.
    Raises :class:`UsageError` naming a key or a value that makes no sense.
    """
    merged = Settings()
    levels = [(None, None)]
    if database is not None:
        levels.append((database, None))
    if table is not None:
        levels.append((database, table))
    for level in levels:
        found = datasette.plugin_config(PLUGIN, *level, fallback=False) or {}
        merged = replace(merged, **_checked(found))
    return merged


def megabytes(count: int) -> str:
    """20,000,000 → ``20 MB``."""
    return f"{count / 10**6:,.3f}".rstrip("0").rstrip(".") + " MB"


def check(datasette) -> None:
    """Look at the instance's and the databases' settings before anybody comes."""
    settings(datasette)
    for database in datasette.databases:
        settings(datasette, database)


def _checked(found) -> dict:
    if not isinstance(found, dict):
        raise UsageError(f"the configuration of {PLUGIN} must be keys with values, not {found!r}.")
    known = [field.name for field in fields(Settings)]
    for key, value in found.items():
        if key not in known:
            raise UsageError(
                f"the configuration of {PLUGIN} has no {key!r}; there are {', '.join(known)}."
            )
        if key == "allow_upload":
            if not isinstance(value, (bool, dict)):
                raise UsageError(
                    f"{PLUGIN}: allow_upload must be true, false or an allow block, not {value!r}."
                )
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{PLUGIN}: {key} must be a whole number above 0, not {value!r}.")
    return found
