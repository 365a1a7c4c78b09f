"""What a request is about: a table, seen by somebody, and what is asked there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..errors import UsageError
from . import filters, links, search
from .settings import Settings

DEFAULT_SIZE = 24


@dataclass(frozen=True)
class Place:
    """A table, seen by somebody: what every answer about it needs to know."""

    datasette: object
    request: object
    db: object
    table: str
    records: list
    record: object | None
    settings: Settings

    @property
    def database(self) -> str:
        return self.db.name

    @property
    def collection_name(self) -> str | None:
        """The collection's name for a URL; None for the one that is meant anyway."""
        return None if self.record in (None, *self.records[:1]) else self.record.name

    @cached_property
    def filters(self) -> links.Pairs:
        """None where there are too many: that is said where they would be applied."""
        try:
            return filters.carried(self.request.query_string)
        except UsageError:
            return []

    @cached_property
    def _kept(self) -> str:
        """The filters as most links of a page have them."""
        return links.encoded(self.filters)

    def link(self, *own: tuple[str, str | int | None], pairs=None, format: str = "") -> str:
        """This page with other parameters of ours, in the same collection, with filters."""
        mine = [*own, ("_collection", self.collection_name)]
        kept = self._kept if pairs is None else links.encoded(pairs)
        given = [(key, str(value)) for key, value in mine if value is not None]
        return links.search(self.datasette, self.database, self.table, given, format, kept)

    def thumbnail(self, row: search.Row) -> str | None:
        if not row.has_thumbnail or not links.has_address(row.key):
            return None
        return links.thumbnail_of(self.table_url, row.key, row.picture, self.collection_name)

    def blob(self, row: search.Row) -> str | None:
        """Where Datasette gives the picture itself, of a row that has it in its column."""
        if not links.has_address(row.key):
            return None
        path, column = links.row_path(row.key), self.record.column_name
        return self.origin + self.datasette.urls.row_blob(self.database, self.table, path, column)

    @cached_property
    def table_url(self) -> str:
        return str(self.datasette.urls.table(self.database, self.table))

    @cached_property
    def origin(self) -> str:
        """What makes an address of this server absolute: ``https://example.com``."""
        return self.datasette.absolute_url(self.request, "/").removesuffix("/")


@dataclass(frozen=True)
class Question:
    """What is asked: a row path, or an uploaded picture's token; or neither yet."""

    similar: str | None = None
    token: str | None = None
    size: int = DEFAULT_SIZE

    @property
    def is_asked(self) -> bool:
        return self.similar is not None or self.token is not None

    @property
    def own(self) -> list[tuple[str, str | None]]:
        return [("_similar", self.similar), ("_upload", self.token)]

    def as_json(self) -> dict | None:
        return {key: value for key, value in self.own if value is not None} or None
