"""The addresses of our own pages, with Datasette's base_url in front."""

from __future__ import annotations

from urllib.parse import urlencode

from datasette.utils import tilde_decode, tilde_encode

Pairs = list[tuple[str, str]]


def row_path(key: tuple) -> str:
    """A row as Datasette's URLs name it: ``7``, ``a~2Fb``, ``a,b``."""
    return ",".join(tilde_encode(str(value)) for value in key)


def has_address(key: tuple) -> bool:
    """Datasette has no page for a row whose only key is an empty text, and no more have we."""
    return row_path(key) != ""


def from_row_path(path: str, key_columns: tuple[str, ...]) -> str:
    """A row path as ``Collection.key_of`` takes it: a single value comes decoded."""
    return tilde_decode(path) if len(key_columns) == 1 else path


def route_path(datasette, path: str) -> str:
    """A request's path as Datasette's routes see it: without base_url."""
    base = datasette.setting("base_url")
    return "/" + path[len(base) :] if path.startswith(base) else path


def overview(datasette) -> str:
    return str(datasette.urls.path("/-/image-search"))


def search(
    datasette, database: str, table: str, pairs: Pairs = (), format: str = "", kept: str = ""
) -> str:
    """``kept`` are more parameters, as :func:`encoded` once for many links."""
    path = f"{datasette.urls.table(database, table)}/-/image-search{format}"
    query = "&".join(part for part in (encoded(pairs), kept) if part)
    return f"{path}?{query}" if query else path


def encoded(pairs: Pairs) -> str:
    return urlencode(pairs)


def row(datasette, database: str, table: str, key: tuple) -> str:
    return f"{datasette.urls.table(database, table)}/{row_path(key)}"


def thumbnail(
    datasette, database: str, table: str, key: tuple, picture: int, collection: str | None
) -> str:
    """The address changes with the picture, so that a browser may keep what it has."""
    return thumbnail_of(str(datasette.urls.table(database, table)), key, picture, collection)


def thumbnail_of(table_url: str, key: tuple, picture: int, collection: str | None) -> str:
    """As :func:`thumbnail`, quick for many rows of one table."""
    named = f"{urlencode([('_collection', collection)])}&" if collection else ""
    path = f"{table_url}/-/image-search/thumbnail/{row_path(key)}"
    return f"{path}?{named}_picture={version(picture)}"


def version(picture: int) -> str:
    return f"{picture:x}"
