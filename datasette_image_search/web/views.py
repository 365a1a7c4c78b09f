"""The routes, and what is answered on the search page: HTML, JSON, and to uploads."""

from __future__ import annotations

import re
from dataclasses import replace

from datasette import Forbidden, Response
from datasette.utils.asgi import Base400
from datasette.views.base import DatasetteError

from ..errors import Busy, ImageSearchError, NotFound, TooLarge, UsageError
from . import (
    answers,
    body,
    collections,
    filters,
    links,
    methods,
    multipart,
    page,
    permissions,
    uploads,
    visit,
)
from .place import DEFAULT_SIZE, Place, Question
from .settings import Settings, settings

_TABLE = r"^/(?P<database>[^\/\.]+)/(?P<table>[^\/\.]+)/-/image-search"
_PAGE = _TABLE + r"(?P<format>\.json)?$"
_UPLOAD = re.compile(_PAGE)


def routes():
    from .overview import overview
    from .thumbnails import thumbnail

    return [
        (r"^/-/image-search(?P<format>\.json)?$", overview),
        (_PAGE, image_search),
        (_TABLE + r"/thumbnail/(?P<row>[^/]+)$", thumbnail),
    ]


def is_upload(datasette, scope) -> bool:
    """Is this a request that :func:`image_search` guards against other sites itself?

    It is asked before Datasette finds a route, and looks at the path as Datasette will:
    no other page may lose its guard because its path ends like ours.
    """
    path = links.route_path(datasette, visit.path_of(scope))
    return scope["method"] == "POST" and _UPLOAD.match(path) is not None


async def image_search(request, datasette):
    """The search page of one table, and what is sent to it."""
    if request.method == "OPTIONS":
        return methods.asked(datasette, methods.READ_AND_SEND)
    wants_json = answers.wants_json(request)
    try:
        response = await _image_search(request, datasette, wants_json)
    except (Base400, DatasetteError) as error:
        if not wants_json:
            raise
        response = answers.failure(
            datasette, error.args[0] if error.args else str(error), error.status
        )
    if request.method == "HEAD":
        response.body = b""
    return methods.readable(datasette, response)


async def _image_search(request, datasette, wants_json: bool):
    db, table = await permissions.visible_table(datasette, request)
    if request.method not in ("GET", "HEAD", "POST"):
        return answers.not_allowed(datasette, wants_json, methods.READ_AND_SEND)
    place = Place(datasette, request, db, table, [], None, Settings())
    question = Question()
    try:
        limits = settings(datasette, db.name, table)
        records = await collections.of_table(db, table)
        if not records:
            await collections.refuse_view(db, table)
        place = Place(datasette, request, db, table, records, None, limits)
        chosen = collections.choose(records, request.args.get("_collection"), db, table)
        place = replace(place, record=chosen)
        question = _question(request, place)
        if request.method == "POST":
            token = await _take_upload(place)
            question = Question(token=token, size=question.size)
            if not wants_json:
                own_size = request.args.get("_size")
                return Response.redirect(place.link(("_upload", token), ("_size", own_size)), 303)
        found = await page.find(place, question, whole_rows=wants_json)
        if wants_json:
            return answers.as_json(datasette, page.as_json(place, question, found))
        return Response.html(await page.as_html(place, question, found))
    except ImageSearchError as error:
        headers = {"retry-after": "5"} if isinstance(error, Busy) else {}
        if wants_json:
            return answers.failure(datasette, page.sentence(error), error.status, headers)
        html = await _with_error(place, question, error)
        return Response.html(html, status=error.status, headers=headers)


async def _with_error(place: Place, question: Question, error: ImageSearchError) -> str:
    """The page that says what is wrong, above what there is to go on from.

    Where a picture is refused, that is the answer from which it was sent; where the row or the
    picture asked about is not there, what one starts from.
    """
    was_sent = place.request.method == "POST"
    if place.record and (was_sent or isinstance(error, NotFound)):
        before = question if was_sent else Question(size=question.size)
        try:
            found = await page.find(place, before)
            return await page.as_html(place, before, found, error, in_vain=question)
        except ImageSearchError:
            pass  # the first error is what matters now, and is said
    return await page.as_html(place, question, None, error)


def _question(request, place: Place) -> Question:
    similar, token = request.args.get("_similar"), request.args.get("_upload")
    if similar is not None and token is not None:
        raise UsageError("Ask for _similar or for _upload, not for both.")
    return Question(similar or None, token or None, _size(request, place.settings.max_k))


def _size(request, most: int) -> int:
    size = request.args.get("_size")
    if not size:
        return min(DEFAULT_SIZE, most)
    if size == "max":
        return most
    number = int(size) if size.isascii() and size.isdecimal() and len(size) < 10 else 0
    if not 1 <= number <= most:
        raise UsageError(f"_size must be a whole number from 1 to {most}, or max, not {size!r}.")
    return number


async def _take_upload(place: Place) -> str:
    """Embed the picture in the request's body; a token by which it is remembered."""
    request, datasette, record = place.request, place.datasette, place.record
    if not permissions.same_origin(request):
        raise Forbidden("Pictures are taken from this site's own pages only.")
    if not await permissions.can_upload(datasette, request.actor, place.database, place.table):
        raise Forbidden("You do not have permission to search by an uploaded picture.")
    # Of too many none go along to the answer, which would be of all rows then.
    filters.carried(request.query_string)
    sent = body.Body(request, place.settings)
    try:
        uploads.check_room()
        with body.memory.share(sent.limit) as share:
            data = await multipart.read_picture(sent, share)
            await collections.still_there(place.db, record)
            vector, thumbnail = await uploads.embed(datasette, place.db, record, data)
    except (TooLarge, Busy):
        await sent.drop_the_rest()
        raise
    return uploads.of(datasette).remember(
        place.database,
        record,
        vector,
        thumbnail,
        seconds=place.settings.upload_seconds,
        most=settings(datasette).max_uploads,
    )
