"""A row's thumbnail from the catalog: the originals are never read to serve it."""

from __future__ import annotations

from datasette import Response

from ..errors import ImageSearchError
from . import collections, links, methods, permissions, visit

_DAY = 24 * 60 * 60


async def thumbnail(request, datasette):
    """A JPEG of at most 256 pixels a side, with the picture's id as its ETag."""
    if request.method == "OPTIONS":
        return methods.asked(datasette, methods.READ)
    return methods.readable(datasette, await _thumbnail(request, datasette))


async def _thumbnail(request, datasette) -> Response:
    db, table = await permissions.visible_table(datasette, request)
    if request.method not in ("GET", "HEAD"):
        return methods.refused(methods.READ)
    asked = request.args  # which Datasette reads anew each time
    try:
        records = await collections.of_table(db, table)
        record = collections.choose(records, asked.get("_collection"), db, table)
        picture, data = await _read(db, record, request.url_vars["row"])
    except ImageSearchError as error:
        return _plain(str(error), error.status)
    if data is None:
        return _plain("There is no thumbnail of this row.", 404)
    tag = f'"{links.version(picture)}"'
    # The address of a picture's own version never shows another; a plain one may.
    lasting = asked.get("_picture") == links.version(picture)
    visit.current().cache_control = f"private, max-age={_DAY}" if lasting else "private, no-cache"
    headers = {"etag": tag, "x-content-type-options": "nosniff"}
    if tag in request.headers.get("if-none-match", ""):
        return Response("", status=304, headers=headers, content_type="image/jpeg")
    body = b"" if request.method == "HEAD" else data
    return Response(body, headers=headers, content_type="image/jpeg")


def _plain(sentence: str, status: int) -> Response:
    # Names from the address stand in it, which nobody shall take for HTML.
    return Response.text(sentence, status=status, headers={"x-content-type-options": "nosniff"})


async def _read(db, record, row: str) -> tuple[int | None, bytes | None]:
    """(picture, thumbnail) of the row of a row path, None where there is none."""

    def work(conn):
        from .. import catalog

        with catalog.plainly(db.name):
            collection = collections.opened(conn, record)
            key = collection.key_of(links.from_row_path(row, record.key_columns))
            return collection.rows.picture_and_thumbnail(key)

    return await db.execute_fn(work)
