"""The picture column on Datasette's own pages, and our entries in its menus."""

from __future__ import annotations

import sqlite3
from contextlib import aclosing

from datasette.utils import is_url, truncate_url
from markupsafe import Markup

from ..errors import ImageSearchError, UsageError
from ..wording import shortened
from . import collections, filters, labels, links, permissions, versions, visit

_CELL = Markup(
    '<div class="image-search-cell">'
    '<a class="image-search-cell-link" href="{url}" rel="nofollow">{picture}'
    '<span class="image-search-cell-label">Find similar'
    '<span class="image-search-hidden"> to {label}{by}</span></span></a>'
    '<span class="image-search-cell-value">{value}</span></div>'
)
_IMAGE = Markup('<img src="{src}" alt="" loading="lazy" decoding="async">')
_REFERRED = Markup('<a href="{url}">{key}</a>')
_REFERRED_WITH_LABEL = Markup('<a href="{url}">{label}</a>&nbsp;<em>{key}</em>')
_NO_IMAGE = Markup('<span class="image-search-none" aria-hidden="true"></span>')


def cell(datasette, database: str, table: str | None, row, column: str, value):
    """For ``render_cell``: None at once, or a coroutine, for cells that may be a picture's."""
    if table is None:
        return None
    known = visit.current().collections.get(database)
    if known is not None and not any(record.table_name == table for record in known):
        return None
    return _cell(datasette, database, table, row, column, value)


async def _cell(datasette, database, table, row, column, value):
    db = datasette.get_database(database)
    records = await collections.known_of_table(db, table)
    for record in records:
        by_type = versions.columns_shown_by_type
        typed = await visit.current().once(by_type, datasette, database, table)
        if _is_its_cell(record, database, row, column, typed):
            return await _picture_cell(datasette, db, records, record, row, column, value)
    return None


def _is_its_cell(record, database: str, row, column: str, typed: set[str]) -> bool:
    """The picture column, or the column beside it where no plugin is asked for that one.

    A table page shows a single key as a link without asking plugins. A row page does
    ask, and then the picture is not shown twice. No page asks for a ``typed`` column.
    """
    place = (database, record.table_name)
    key_cells = visit.current().key_cells
    if column == record.column_name:
        key_cells.add(place)
        return True
    is_key = record.key_columns == (record.column_name,)
    if place in key_cells or not (is_key or record.column_name in typed):
        return False
    taken = {record.column_name, *record.key_columns, *typed}
    return column == next((name for name in _names(row) if name not in taken), None)


async def _picture_cell(datasette, db, records, record, row, column, value):
    try:
        key = tuple(_plain(row[name]) for name in record.key_columns)
    except (KeyError, IndexError):
        return None
    if not links.has_address(key):
        return None

    def preview(conn):
        from ..catalog import Rows

        return Rows(conn, record).preview(key)

    try:
        picture, has_thumbnail = await db.execute_fn(preview)
    except (ImageSearchError, sqlite3.Error):
        return None  # a damaged catalog: the table page goes on without us
    if picture is None:
        return None
    name = None if record == records[0] else record.name
    table, path = record.table_name, links.row_path(key)
    if isinstance(value, dict):
        shown = await _referred(datasette, db, table, column, value)
    else:
        shown = _value(datasette, db.name, table, path, column, value)
    image = _NO_IMAGE
    if has_thumbnail:
        source = links.thumbnail(datasette, db.name, table, key, picture, name)
        image = _IMAGE.format(src=source)
    called = await visit.current().once(db.label_column_for_table, table)
    own = _label(row[called]) if called in _names(row) else None
    by = collections.by_column(records, record)
    return _CELL.format(
        url=search_url(datasette, db.name, table, path, name),
        picture=image,
        label=labels.of_row(own, key),
        by=f", by {labels.cut(by)}" if by else "",
        value=shown,
    )


def _label(value):
    """A value as a row is called by it; of a foreign key what Datasette calls that one."""
    return value["label"] if isinstance(value, dict) else value


def _names(row) -> list[str]:
    return list(row.keys())  # a sqlite3.Row iterates over its values


def _plain(value):
    """A value; of a foreign key that Datasette has given a label, the key."""
    return value["value"] if isinstance(value, dict) else value


def _value(datasette, database, table, path, column, value) -> Markup | str:
    """What the column holds, small, as Datasette would have shown it."""
    if isinstance(value, bytes):
        blob = datasette.urls.row_blob(database, table, path, column)
        return Markup('<a class="blob-download" href="{}">{:,} bytes</a>').format(blob, len(value))
    most = _longest(datasette)
    if isinstance(value, str) and is_url(value.strip()):
        url = value.strip()
        return Markup('<a href="{}">{}</a>').format(url, truncate_url(url, most))
    text = "" if value is None else str(value)
    return shortened(text, most) if most else text


async def _referred(datasette, db, table: str, column: str, value: dict) -> Markup | str:
    """A foreign key with its label, as Datasette links it."""
    key, label = value["value"], value["label"]
    keys = await visit.current().once(db.foreign_keys_for_table, table)
    other = next((own["other_table"] for own in keys if own["column"] == column), None)
    if other is None:
        return str(label)
    link = _REFERRED if label == key else _REFERRED_WITH_LABEL
    url = datasette.urls.row(db.name, other, links.row_path((key,)))
    return link.format(url=url, key=key, label=label or "-")


def _longest(datasette) -> int:
    """How many characters a cell has at most; 0 for any number, as on a row's own page."""
    return 0 if _is_row_page(datasette) else datasette.setting("truncate_cells_html")


def _is_row_page(datasette) -> bool:
    path = links.route_path(datasette, visit.current().path)
    return path.strip("/").count("/") == 2  # /database/table/row


def search_url(
    datasette, database: str, table: str, path: str | None, collection: str | None = None
) -> str:
    """The search page, from a row or not, with the filters of the page one is on."""
    own = [("_similar", path), ("_collection", collection)]
    given = [(key, value) for key, value in own if value is not None]
    # A row's own page has no filters: what stands in its address is of no table's columns.
    kept = "" if _is_row_page(datasette) else _carried()
    return links.search(datasette, database, table, given, kept=kept)


def _carried() -> str:
    """The filters of the page one is on, as they are in an address: once for all of its cells."""
    now = visit.current()
    if now.carried is None:
        try:
            now.carried = links.encoded(filters.carried(now.query_string))
        except UsageError:  # too many: the search page would say so
            now.carried = ""
    return now.carried


# -- menus ------------------------------------------------------------------------------


async def table_menu(datasette, database: str, table: str) -> list[dict]:
    if not await collections.known_of_table(datasette.get_database(database), table):
        return []
    return [
        {
            "href": search_url(datasette, database, table, None),
            "label": "Find similar pictures",
            "description": "Search this table by a picture.",
        }
    ]


async def row_menu(datasette, database: str, table: str, row) -> list[dict]:
    """An entry for each picture column, as each has a link in its cell. The page it leads to
    names the other collections, of the same column too."""
    records = await collections.known_of_table(datasette.get_database(database), table)
    first: dict = {}
    for record in records:
        first.setdefault(record.column_name, record)
    entries = []
    for record in first.values():
        try:
            key = tuple(_plain(row[name]) for name in record.key_columns)
        except (KeyError, IndexError):
            continue
        by = collections.by_column(records, record)
        name = None if record == records[0] else record.name
        entries.append(
            {
                "href": search_url(datasette, database, table, links.row_path(key), name),
                "label": f"Find similar pictures{f' by {labels.cut(by)}' if by else ''}",
                "description": "Rows whose pictures look like this one's.",
            }
        )
    return entries


async def main_menu(datasette, actor) -> list[dict]:
    """The list of collections, for those to whom it would show one."""
    for db in datasette.databases.values():
        try:
            records = await collections.of_database(db)
            async with aclosing(permissions.seen(datasette, actor, db, records)) as seen:
                async for _ in seen:
                    return [{"href": links.overview(datasette), "label": "Image search"}]
        except (ImageSearchError, sqlite3.Error):
            continue  # a page about another database goes on without this one
    return []
