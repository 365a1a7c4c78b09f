"""Reading ahead: while the network is at work, what comes next is read and decoded.

Threads read and hash; processes of their own decode what strangers made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from .. import pictures
from ..catalog import Candidate
from ..errors import PictureError, SourceError
from ..pictures.decoders import Decoders
from ..sources import Sources, is_url

# Enough to keep a network fed, few enough that memory does not grow with the table.
AHEAD = 128
# Rows are handed to a thread by so many: beside a small network it shows what that costs.
TOGETHER = 4
# The largest pictures take one to three; a picture that takes so many is made to.
DECODE_SECONDS = 30


@dataclass(frozen=True)
class Read:
    """A row's picture as it was read: an ``error``, or a picture id.

    ``prepared`` is None where its vector is known already, or where another row of the
    same run has decoded it. Of an error, ``is_other`` is whether the picture of before has
    certainly been replaced: what a URL gives may be another the next time.
    """

    row: Candidate
    fingerprint: str | None = None
    picture: int | None = None
    sha256: str | None = None
    prepared: pictures.Prepared | None = None
    error: str | None = None
    is_other: bool = False


class Reader:
    """Reads rows in order, a bounded number ahead. A context manager.

    ``is_known`` says of a picture, by id and SHA-256, whether nothing of it is wanted;
    ``blob`` gives the bytes of a row that has them in its column. Both are called from
    the reading threads.
    """

    def __init__(
        self,
        sources: Sources,
        geometry: pictures.Geometry,
        *,
        thumbnails: bool,
        blob: Callable[[Candidate], bytes],
        is_known: Callable[[int, str], bool],
    ):
        self._sources = sources
        self._blob = blob
        self._geometry = geometry
        self._thumbnails = thumbnails
        self._is_known = is_known
        # The network's threads wait for each other: none should wait for a decoder.
        self._decoders = Decoders(seconds=DECODE_SECONDS, niceness=5)
        # Two more, so that files are read while others are decoded.
        self._pool = ThreadPoolExecutor(self._decoders.most + 2, "image-search-read")

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error) -> None:
        # First: nobody waits for what is still being decoded, or fetched.
        self._decoders.close()
        self._sources.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def read(self, rows: Iterable[Candidate]) -> Iterator[Read]:
        """What became of each row, in the order given."""
        ahead: deque[Future] = deque()
        for some in _by_few(rows):
            ahead.append(self._pool.submit(self._read_some, some))
            if len(ahead) >= AHEAD // TOGETHER:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()

    def _read_some(self, rows: list[Candidate]) -> list[Read]:
        return [self._read(row) for row in rows]

    def _read(self, row: Candidate) -> Read:
        fingerprint = id = None
        try:
            if row.value is None:
                data = self._blob(row)
            else:
                # Another source than the last time has no fingerprint to compare.
                known = row.fingerprint if row.value == row.source else None
                fetched = self._sources.fetch(row.value, known)
                data, fingerprint = fetched.data, fetched.fingerprint
                if data is None:
                    return Read(row, fingerprint, row.picture)
            digest = pictures.sha256(data)
            id = pictures.picture_id(digest)
            if self._is_known(id, digest):
                return Read(row, fingerprint, id, digest)
            prepared = self._decoders.prepare(data, self._geometry, thumbnail=self._thumbnails)
            return Read(row, fingerprint, id, digest, prepared)
        except (SourceError, PictureError) as error:
            is_other = self._is_other(row, id)
            return Read(row, fingerprint, error=str(error), is_other=is_other)

    def _is_other(self, row: Candidate, id: int | None) -> bool:
        """Has the row another picture than before, though it cannot be read or decoded?"""
        if row.value is None:
            return id != row.picture  # None of a BLOB that is too large, as no picture was
        if is_url(row.value):
            return False
        if id is not None:
            return id != row.picture
        known = row.fingerprint if row.value == row.source else None
        return self._sources.changed(row.value, known)


def _by_few(rows: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    """Some rows at a time; URLs alone, as one may keep those behind it waiting."""
    some: list[Candidate] = []
    for row in rows:
        some.append(row)
        if len(some) == TOGETHER or is_url(row.value):
            yield some
            some = []
    if some:
        yield some
