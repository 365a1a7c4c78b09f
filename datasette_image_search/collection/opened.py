"""What stays open in a process: sidecars and networks, shared by all that ask; and what
has been looked up in a database, for each connection, while nothing in it changes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from .. import catalog
from ..errors import CatalogError
from ..models import EmbeddingModel, LoadedModel, Weights
from ..vector_index import Identity, Sidecar


class _Value:
    """One that is kept, and the lock of whoever makes it: others are not kept waiting."""

    def __init__(self):
        self.lock = threading.Lock()
        self.made: tuple = ()  # the value, once it is there


class _Kept:
    """The values made last, by key; the one used longest ago goes when there are too many."""

    def __init__(self, most: int):
        self._most = most
        self._values: OrderedDict = OrderedDict()
        self._lock = threading.Lock()
        self._makers: set[int] = set()

    def get(self, key, make: Callable, *, in_passing: bool = False):
        """The value of ``key``, made where it is not there.

        Asked for ``in_passing``, it takes no other's place, and is the first to go.
        """
        with self._lock:
            kept = self._values.get(key) or _Value()
            if not in_passing:
                self._values[key] = kept
                self._values.move_to_end(key)
                while len(self._values) > self._most:
                    self._values.popitem(last=False)
            elif key not in self._values and len(self._values) < self._most:
                self._values[key] = kept
                self._values.move_to_end(key, last=False)
        if kept.made:
            return kept.made[0]
        thread = threading.get_ident()
        if thread in self._makers:  # else it would wait for itself
            raise CatalogError("what is looked up here asks for itself.")
        with kept.lock:
            if not kept.made:
                self._makers.add(thread)
                try:
                    kept.made = (make(),)
                finally:
                    self._makers.discard(thread)
            return kept.made[0]


class _LookedUp:
    """What has been found through one connection, forgotten when its database changes."""

    def __init__(self, conn: sqlite3.Connection):
        self._conn = conn
        self._state: tuple = ()
        self._values = _Kept(64)

    def get(self, key, make: Callable):
        if self._conn.in_transaction:
            return make()  # what is written there may be taken back
        state = catalog.state(self._conn)
        if state != self._state:
            self._state, self._values = state, _Kept(64)
        return self._values.get(key, make)


_sidecars = _Kept(64)
_networks = _Kept(2)
_connections = _Kept(256)


def looked_up(conn: sqlite3.Connection, key, make: Callable):
    """``make()``, or what it gave before if the database of ``conn`` is what it was then.

    Keeps ``conn`` alive: for connections that ask again and again.
    """
    return _connections.get(id(conn), lambda: _LookedUp(conn)).get(key, make)


def opened_sidecar(path: Path, identity: Identity, *, in_passing: bool = False) -> Sidecar:
    """The sidecar at ``path``, opened once; it follows the file by itself.

    Where it is looked at ``in_passing``, as by a list of all, none that searches use is closed.
    """
    return _sidecars.get(
        (str(path), identity), lambda: Sidecar(path, identity), in_passing=in_passing
    )


def loaded_model(
    model: EmbeddingModel, weights: Weights, device: str = "auto", precision: str = "auto"
) -> LoadedModel:
    """The model's network, loaded once; imports torch."""
    key = (model.id, weights.sha256, device, precision)
    return _networks.get(key, lambda: model.load(weights, device, precision))
