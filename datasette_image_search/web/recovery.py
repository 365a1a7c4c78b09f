"""A killed writer's half transaction is undone, so that a server goes on answering.

Datasette opens databases for reading alone, and SQLite lets nobody who only reads put
back what a killed writer overwrote: until somebody opens the file for writing, every
read of it fails, on Datasette's own pages too. So before a request is answered, and
again where its answer is a failure, a database in that state is opened for writing once.
Nothing else is written, and immutable databases are left alone.

Where a request fails while a writer is at work, it is answered once more too: another
process may have undone the half transaction first, or have replaced a collection between
two of the request's reads.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from pathlib import Path

from ..errors import HALF_WRITTEN, ImageSearchError
from . import files

log = logging.getLogger("datasette_image_search")

_OURS = "/-/image-search"
# What a read that went wrong is answered with: 400 where it was the user's own SQL.
_FAILURES = {400, *range(500, 600)}


def before_reading(datasette, database: str) -> None:
    """For a new connection: Datasette will not start with a database it cannot read."""
    db = datasette.databases.get(database)
    if db is not None and _has_journal(db):
        try:
            _undo(db)
        except ImageSearchError as error:
            log.warning("%s", error)


def asgi(datasette, app):
    """Wrap Datasette: no request fails because a writer was killed."""

    async def recovered(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)
        all_readable = await _undo_all(datasette)
        if not all_readable and _OURS in scope["path"]:
            return await _refused_if_it_fails(app, scope, receive, send)
        if scope["method"] not in ("GET", "HEAD"):
            return await app(scope, receive, send)  # a body cannot be read again
        first = _FirstTry(datasette, send)
        try:
            await app(dict(scope), receive, first.send)
        except sqlite3.OperationalError:
            if not first.failed and (first.started or not await first.is_worth_another()):
                raise
            first.failed = True
        if first.failed:
            await app(scope, receive, send)

    return recovered


class _FirstTry:
    """A response on its way, kept back where it is a failure that asking again mends."""

    def __init__(self, datasette, send):
        self.started = self.failed = False
        self._datasette = datasette
        self._send = send
        self._before = self._state()

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.failed = message["status"] in _FAILURES and await self.is_worth_another()
            self.started = True
        if not self.failed:
            await self._send(message)

    async def is_worth_another(self) -> bool:
        """Has a database changed meanwhile, be it that a killed writer's work was undone?

        Or is it about to, as another process is undoing it? Whoever reads now waits for that.
        """
        is_written = any(map(_is_written, self._datasette.databases.values()))
        await _undo_all(self._datasette)
        return self._state() != self._before or is_written

    def _state(self) -> list:
        return [files.state(db.path) for db in self._datasette.databases.values() if db.is_mutable]


async def _undo_all(datasette) -> bool:
    """Make every database readable again; False where that cannot be done with one."""
    done = True
    for db in list(datasette.databases.values()):
        if _has_journal(db):
            try:
                await asyncio.to_thread(_undo, db)
            except ImageSearchError as error:
                log.warning("%s", error)
                done = False
    return done


def _has_journal(db) -> bool:
    return bool(db.path) and db.is_mutable and os.path.exists(f"{files.real(str(db.path))}-journal")


def _is_written(db) -> bool:
    if not _has_journal(db):
        return False
    from .. import catalog  # here: a failure elsewhere does not pay for numpy

    return catalog.has_journal(db.path)


def _undo(db) -> None:
    # Imported here: a database that has no journal never pays for numpy.
    from .. import catalog

    if catalog.is_interrupted(db.path):
        catalog.roll_back(db.path)
        log.warning("%s: undone what a killed program left half written.", Path(db.path).name)


# -- where it cannot be undone --------------------------------------------------------


async def _refused_if_it_fails(app, scope, receive, send) -> None:
    """Visitors who may not see the database are answered as ever, before it is read.

    Whichever database the path names, there or not: where Datasette itself fails on the one
    that cannot be read, all are answered alike.
    """
    started = failed = False

    async def all_but_failures(message):
        nonlocal started, failed
        if message["type"] == "http.response.start":
            started, failed = True, message["status"] >= 500
        if not failed:
            await send(message)

    try:
        await app(scope, receive, all_but_failures)
    except sqlite3.OperationalError:
        if started and not failed:
            raise
        failed = True
    if failed:
        await _refuse(scope["path"], send)


async def _refuse(path: str, send) -> None:
    said = HALF_WRITTEN[:1].upper() + HALF_WRITTEN[1:]
    body, kind = said, "text/plain; charset=utf-8"
    if path.endswith(".json"):
        body = json.dumps({"ok": False, "error": said, "errors": [said], "status": 503})
        kind = "application/json; charset=utf-8"
    headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
