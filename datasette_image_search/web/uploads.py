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
from typing import NamedTuple
from weakref import WeakKeyDictionary

from ..errors import Busy, ModelError, NotFound
from ..wording import visible

log = logging.getLogger("datasette_image_search")

MOST_WAITING = 8


class _Place(NamedTuple):
    """A collection, and what made its vectors: made anew by another model, it is another."""

    database: str
    collection: str
    table: str
    model: str
    weights: str
    resize: str

    @classmethod
    def of(cls, database: str, record) -> _Place:
        made_by = record.model, record.weights, record.resize
        return cls(database, record.name, record.table_name, *made_by)

    def serves(self, other: _Place) -> bool:
        """Is a picture's vector the same in the ``other``?"""
        return self._replace(collection=other.collection) == other

    def is_beside(self, other: _Place) -> bool:
        """Another collection of the same table?"""
        same_table = (self.database, self.table) == (other.database, other.table)
        return same_table and self.collection != other.collection


@dataclass(frozen=True)
class Upload:
    """A picture's ``vector`` (float32) and ``thumbnail`` (JPEG); the picture is not kept.

    ``place`` is where it may be asked with.
    """

    place: _Place
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

    def remember(self, database: str, record, vector, thumbnail, *, seconds: int, most: int) -> str:
        """A token for the picture, good for ``seconds`` in this collection, and in those of its
        table that make the same vector of it.

        Good for whoever has it and may see the table: an address can be shared.
        """
        token = secrets.token_urlsafe(24)
        with self._lock:
            now = self._clock()
            for old in [t for t, upload in self._known.items() if upload.until <= now]:
                del self._known[old]
            self._known[token] = Upload(
                _Place.of(database, record), vector, thumbnail, now + seconds
            )
            while len(self._known) > most:
                self._known.popitem(last=False)
        return token

    def find(self, database: str, record, token: str) -> Upload:
        """Raises :class:`NotFound` for another table's token as for no token at all.

        Of the same table's other collections it says which one has the picture: whoever
        compares them goes from one to the other.
        """
        place = _Place.of(database, record)
        with self._lock:
            upload = self._known.get(str(token))
            if upload is not None and upload.until > self._clock():
                if upload.place.serves(place):
                    return upload
                if upload.place.is_beside(place):
                    raise NotFound(
                        f"This picture was sent to {upload.place.collection!r}, and is not kept "
                        f"itself: choose it again to search {record.name!r}."
                    )
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
    return lambda record, token: uploads.find(database, record, token).vector


class _Embedder:
    """One thread for networks, shared by the process: more would only share the cores."""

    def __init__(self):
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="image-search-upload")
        self._waiting = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises :class:`Busy` where there is no place: better before a picture is sent."""
        if self._waiting >= MOST_WAITING:
            raise Busy("Too many pictures are waiting to be looked at: try again in a moment.")

    async def run(self, work, *arguments):
        with self._lock:
            self.check()
            self._waiting += 1
        future = self._pool.submit(work, *arguments)
        # When the work ends, not when the visitor leaves: the thread is busy until then.
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def _leave(self, future) -> None:
        with self._lock:
            self._waiting -= 1


_embedder = _Embedder()
check_room = _embedder.check


async def embed(datasette, db, record, data: bytes):
    """(vector, thumbnail) of a picture, made as the collection's were, off the event loop."""
    try:
        return await _embedder.run(
            _embed, datasette, Path(db.path or "").resolve().parent, record, data
        )
    except ModelError as error:
        # What is wrong names files of the server: it is for those who read its log.
        log.error("%s: %s", visible(record.name), error)
        raise ModelError(
            f"this server cannot look at pictures for {record.name!r} now: "
            f"its model {record.model} does not run here."
        ) from error


def _embed(datasette, folder: Path, record, data: bytes):
    from ..collection import picture_vector
    from ..hookspecs import registered_models

    return picture_vector(data, record, folder, registered_models(datasette))
