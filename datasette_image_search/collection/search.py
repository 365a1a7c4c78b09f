"""Asking a collection: the rows whose pictures are nearest to a row's or to a vector."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .. import catalog
from ..catalog import CollectionRecord, Rows
from ..errors import NotFound, SidecarError, UsageError
from ..vector_index import EmptySidecar, Identity, Neighbours, compare
from ..wording import free_names
from .keys import parse_key
from .lost import any_lost, is_news, some_told
from .opened import looked_up, opened_sidecar

log = logging.getLogger("datasette_image_search")

DEFAULT_K = 10
MAX_K = 10_000
# Asked beyond k at once: the row itself, rows that have gone, rows a filter drops.
SLACK = 6
_SLACK_TOGETHER = 2  # of many rows at once: one that lacks matches is asked again, alone
_FILTERED = 3  # times as many are asked for under a filter, at first, and
_FILTERED_MOST = 4096  # at most before it is asked which rows there are


@dataclass(frozen=True)
class Match:
    """One answer: a row's key, its rank from 1, cosine score and L2 distance."""

    key: tuple
    rank: int
    score: float
    distance: float

    def as_dict(self, keys: tuple[str, ...]) -> dict:
        """As SQL and JSON show it: the key's columns under their own names."""
        figures = zip(figure_names(keys), (self.rank, self.score, self.distance))
        return {**dict(zip(keys, map(finite, self.key))), **dict(figures)}


@lru_cache(64)
def figure_names(keys: tuple[str, ...]) -> tuple[str, ...]:
    """What rank, score and distance are called in a match. Without its key a match would be
    of no use."""
    return tuple(free_names(("rank", "score", "distance"), keys))


def identity_of(record: CollectionRecord) -> Identity:
    """What made the vectors of a collection, as its sidecar must say too."""
    return Identity(
        record.model, record.weights, record.preprocessing, record.dimensions, record.metric
    )


class Collection:
    """One collection, opened for reading through a connection to its database.

    Cheap to make: the sidecar is shared by all that ask in this process. One that is looked at
    ``in_passing`` takes no other's place among those that stay open.
    """

    def __init__(self, conn: sqlite3.Connection, record: CollectionRecord, *, in_passing=False):
        self.conn = conn
        self.record = record
        self.rows = Rows(conn, record)
        self._index = None
        self._in_passing = in_passing

    @classmethod
    def open(
        cls, conn: sqlite3.Connection, name: str, *, of_collection: bool = False
    ) -> Collection:
        """The collection called ``name``, or a table's; raises :class:`NotFound`.

        A name that is a collection's and another table's is refused, unless the collection
        is known to be meant (``of_collection``).
        """
        record = catalog.require(conn, name, of_collection=of_collection)
        record.table(conn)
        return cls(conn, record)

    @classmethod
    def kept(
        cls, conn: sqlite3.Connection, name: str, *, of_collection: bool = False
    ) -> Collection:
        """As :meth:`open`, and quick when the database is what it was the last time.

        Keeps ``conn`` alive: for connections that ask again and again, as a server's.
        """
        return looked_up(
            conn,
            (name, of_collection),
            lambda: cls.open(conn, name, of_collection=of_collection),
        )

    @property
    def index(self):
        """The sidecar (:class:`~datasette_image_search.vector_index.Sidecar`), which follows
        its files by itself."""
        if self._index is None:
            path, identity = self.record.sidecar_path(self.conn), identity_of(self.record)
            try:
                index = opened_sidecar(path, identity, in_passing=self._in_passing)
                index.refresh()  # one that was opened before may have lost its files since
            except SidecarError:
                if not self.rows.is_empty():
                    raise
                # An embed has just begun, or was killed then: nothing is lost that was there.
                return EmptySidecar(path, identity)
            self._index = index
        return self._index

    # -- rows -------------------------------------------------------------------

    def key_of(self, argument) -> tuple:
        """The key of a row that is there, from a value or a compound key's row path.

        Raises :class:`NotFound` where there is no such row.
        """
        key = parse_key(argument, self.record.key_columns, self.record.table_name)
        found = self.rows.find(key)
        if found is None:
            raise NotFound(f"there is no row {argument!r} in {self.record.table_name!r}.")
        return found

    def why_no_picture(self, key: tuple) -> str:
        """One sentence on a row whose picture has no vector."""
        picture, reason = self.rows.picture_of(key)
        shown = ",".join(str(value) for value in key)
        if reason:
            return f"row {shown} has no embedded picture: {reason}"
        if picture is not None:
            return (
                f"row {shown} has a picture whose vector is not in the sidecar: "
                "'datasette image-search embed' makes it again."
            )
        return (
            f"row {shown} has no embedded picture: it has none, or "
            "'datasette image-search embed' has not seen it yet."
        )

    # -- matches ----------------------------------------------------------------

    def similar_to_row(
        self,
        key: tuple,
        k: int = DEFAULT_K,
        where: str | None = None,
        parameters: dict | None = None,
    ) -> list[Match]:
        """The ``k`` rows nearest to the row ``key``, without itself; [] if it has no picture.

        ``where`` is an SQL condition on the table: exactly the nearest that fulfil it.
        """
        vector = self.vector_of(key)
        if vector is None:
            return []
        return self.similar_to_vector(vector, k, where, parameters, without=key)

    def similar_to_vector(
        self,
        vector: np.ndarray,
        k: int = DEFAULT_K,
        where: str | None = None,
        parameters: dict | None = None,
        without: tuple | None = None,
    ) -> list[Match]:
        """As :meth:`similar_to_row`, for the vector of any picture."""
        k = check_k(k)
        queries = np.asarray(vector, np.float32)[None]
        wanted = (k + SLACK) * (1 if where is None else _FILTERED)
        while wanted <= max(_FILTERED_MOST, _FILTERED * (k + SLACK)):
            neighbours = self.index.search(queries, wanted)[0]
            matches = self._rows_of(neighbours, k, where, parameters, without)
            if len(matches) >= k:
                return matches
            if len(neighbours.ids) < wanted:  # there are no more vectors
                self._tell_if_lost()
                return matches
            # Many rows have gone since the last embed, or a filter leaves few. As many as
            # would do if the farther ones fit it as often, and half as many again.
            wanted = max(4 * wanted, int(1.5 * wanted * k / max(len(matches), 0.5)))
        # Few rows fit, or are left: search among their pictures alone, one more for the row itself.
        allowed = self.rows.picture_ids(where, parameters)
        neighbours = self.index.search(queries, k + 1, allowed)[0]
        if len(neighbours.ids) < min(k + 1, len(allowed)):
            self._tell_of_lost()
        return self._rows_of(neighbours, k, where, parameters, without)

    def _tell_if_lost(self) -> None:
        if any_lost(self.rows, self.index):
            self._tell_of_lost()

    def _tell_of_lost(self) -> None:
        """In the log: there are pictures that have a row and no vector, and are not found."""
        if is_news(self.index):
            name = catalog.database_name(self.conn)
            log.warning("%s", some_told(name, self.record, self.index))

    def similar_to_rows(self, rows: list[tuple[tuple, int]], k: int) -> list[list[Match]]:
        """As :meth:`similar_to_row` of each, given as (key, picture id), found together."""
        snapshot = self.index.refresh()
        places = snapshot.places(np.array([picture for _, picture in rows], np.int64))
        slots = np.flatnonzero(places >= 0).tolist()
        if len(slots) < len(rows):
            self._tell_of_lost()
        vectors = snapshot.read(places[slots])
        wanted = k + _SLACK_TOGETHER
        found = snapshot.search(vectors, wanted)
        pictures = {id for neighbours in found for id in neighbours.ids.tolist()}
        keys = self._keys_with(sorted(pictures), k)
        matches: list[list[Match]] = [[] for _ in rows]
        no_more = False
        for slot, vector, neighbours in zip(slots, vectors, found):
            key, _ = rows[slot]
            own = _matches(neighbours, keys, k, without=key)
            if len(own) < k and len(neighbours.ids) == wanted:  # many rows have gone
                own = self.similar_to_vector(vector, k, without=key)
            no_more |= len(neighbours.ids) < wanted
            matches[slot] = own
        if no_more:
            self._tell_if_lost()
        return matches

    def _keys_with(self, ids: list[int], k: int, where=None, parameters=None) -> dict:
        """picture id → the keys of its rows, one more than ``k`` for the row asked with."""
        keys = defaultdict(list)
        for picture, key in self.rows.with_pictures(ids, k + 1, where, parameters):
            keys[picture].append(key)
        return keys

    def _rows_of(self, neighbours: Neighbours, k, where, parameters, without) -> list[Match]:
        keys = self._keys_with(neighbours.ids.tolist(), k, where, parameters)
        return _matches(neighbours, keys, k, without)

    def vector_of(self, key: tuple) -> np.ndarray | None:
        """The stored vector of a row's picture, or None where it has none."""
        picture, _ = self.rows.picture_of(key)
        vector = None if picture is None else self.index.vector(picture)
        if vector is None and picture is not None:
            self._tell_of_lost()
        return vector

    def similarity(self, one: tuple, other: tuple) -> float | None:
        """Cosine similarity of two rows' pictures; None where one has none."""
        first, second = self.vector_of(one), self.vector_of(other)
        if first is None or second is None:
            return None
        return round(float(compare(first, second[None])[0][0]), 6)


def _matches(neighbours: Neighbours, keys: dict, k: int, without: tuple | None) -> list[Match]:
    """The first ``k``."""
    matches: list[Match] = []
    for id, score, distance in zip(
        neighbours.ids.tolist(), neighbours.scores.tolist(), neighbours.distances.tolist()
    ):
        for key in keys.get(id, ()):
            if key != without:
                rank = len(matches) + 1
                matches.append(Match(key, rank, round(score, 6), round(distance, 6)))
                if rank == k:
                    return matches
    return matches


def as_text(value) -> str:
    """What JSON has no form for: bytes as hexadecimal digits, as SQLite's hex() in lower case."""
    return value.hex() if isinstance(value, bytes) else str(value)


def finite(value):
    """``value``, or None for an infinite number, which JSON has no form for either."""
    return None if isinstance(value, float) and math.isinf(value) else value


def check_k(k) -> int:
    """``k`` as a number from 1 to 10,000; raises :class:`UsageError`."""
    try:
        number = int(k) if isinstance(k, (int, str)) or k == int(k) else 0
    except (TypeError, ValueError, OverflowError):
        number = 0
    if not 1 <= number <= MAX_K:
        raise UsageError(f"k must be a whole number from 1 to {MAX_K}, not {k!r}.")
    return number
