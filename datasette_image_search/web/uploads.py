"""Uploaded pictures: embedded by a thread of their own, remembered for a while in memory."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from ..errors import Busy, ModelError, NotFound

log = logging.getLogger("datasette_image_search")

MOST_WAITING = 8


@dataclass(frozen=True)
class Upload:
    """A picture's ``vector`` (float32) and ``thumbnail`` (JPEG); the picture is not kept."""

    database: str
    collection: str
    vector: object
    thumbnail: bytes | None
    until: float


class Uploads:
    """The pictures that one server remembers, by tokens that cannot be guessed."""

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()  # SQL functions ask from Datasette's threads
        self._known: OrderedDict[str, Upload] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def remember(
        self, database: str, collection: str, vector, thumbnail, *, seconds: int, most: int
    ) -> str:
        """A token for the picture, good for ``seconds`` in this collection alone."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            now = self._clock()
            for old in [t for t, upload in self._known.items() if upload.until <= now]:
                del self._known[old]
            self._known[token] = Upload(database, collection, vector, thumbnail, now + seconds)
            while len(self._known) > most:
                self._known.popitem(last=False)
        return token

    def find(self, database: str, collection: str, token: str) -> Upload:
        """Raises :class:`NotFound` for another collection's token as for no token at all."""
        with self._lock:
            upload = self._known.get(str(token))
            if (
                upload is not None
                and upload.until > self._clock()
                and (upload.database, upload.collection) == (database, collection)
            ):
                return upload
        raise NotFound("This uploaded picture is no longer remembered: choose it again.")


_servers: WeakKeyDictionary = WeakKeyDictionary()
_servers_lock = threading.Lock()


def of(datasette) -> Uploads:
    """The uploads of one Datasette instance."""
    with _servers_lock:
        return _servers.setdefault(datasette, Uploads())


def remembered(datasette, database: str):
    """What the SQL function ``similar_to_upload`` asks, bound to one database."""
    uploads = of(datasette)
    return lambda collection, token: uploads.find(database, collection, token).vector


class _Embedder:
    """One thread for networks, shared by the process: more would only share the cores."""

    def __init__(self):
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="image-search-upload")
        self._places = threading.BoundedSemaphore(MOST_WAITING)

    async def run(self, work, *arguments):
        if not self._places.acquire(blocking=False):
            raise Busy("Too many pictures are waiting to be looked at: try again in a moment.")
        future = self._pool.submit(work, *arguments)
        # When the work ends, not when the visitor leaves: the thread is busy until then.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)


_embedder = _Embedder()


async def embed(datasette, db, record, data: bytes):
    """(vector, thumbnail) of a picture, made as the collection's were, off the event loop."""
    try:
        return await _embedder.run(_embed, datasette, Path(db.path or "").parent, record, data)
    except ModelError as error:
        # What is wrong names files of the server: it is for those who read its log.
        log.error("%s: %s", record.name, error)
        raise ModelError(
            f"this server cannot look at pictures for {record.name!r} now: "
            f"its model {record.model} does not run here."
        ) from error


def _embed(datasette, folder: Path, record, data: bytes):
    from ..collection import picture_vector
    from ..hookspecs import registered_models

    return picture_vector(data, record, folder, registered_models(datasette))
