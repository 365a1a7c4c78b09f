"""A collection's vectors: the sidecar file and the journal beside it, as one index.

Resembles a small log-structured store: a large file that is only ever replaced
(the base), and a journal of what has come since, searched together. Not for: many
writers (one at a time, by a lock), or more recent vectors than fit in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..errors import SidecarError, SidecarMissing
from . import base_file, engine, journal
from .base import Base
from .files import journal_path, missing, unlink_partials
from .identity import Identity
from .lock import hold
from .snapshot import Neighbours, Snapshot, normalised
from .stamps import refused, stamp
from .tail import Tail


class Sidecar:
    """A collection's vectors, for reading: ``search``, ``vectors``, ``contains``.

    Every call first looks whether a writer has added something, and takes it in:
    a server needs no restart. One object may be used by many threads, and they search
    at the same time: each has the snapshot that was current when it came.
    """

    def __init__(self, path: Path, identity: Identity):
        self.path = Path(path)
        self.identity = identity
        self._files = (str(self.path), str(journal_path(self.path)))
        self._lock = threading.RLock()  # held while files are looked at, not while searching
        self._tail = Tail(None, identity)
        self._snapshot = self._tail.snapshot()
        self._seen: tuple = ()
        self.refresh()

    # -- following the files ------------------------------------------------

    def refresh(self) -> Snapshot:
        """Take in what has changed on disk; two ``stat`` calls when nothing has."""
        with self._lock:
            while (seen := self._stamps()) != self._seen:
                if not any(seen):
                    raise missing(self.path)
                self._read_checked(seen)
                if stamp(self._files[0]) == seen[0]:
                    break  # else the journal read may be that of another base
            return self._snapshot

    def _stamps(self) -> tuple:
        # The journal first, here and in reading: a writer may turn it into a new base between.
        base, recent = self._files
        recent = stamp(recent)
        return stamp(base), recent

    def _read_checked(self, seen: tuple) -> None:
        refused.check(self.path, self.identity, seen)
        try:
            self._read(seen)
        except SidecarError as error:
            if self._stamps() == seen:
                refused.remember(self.path, self.identity, seen, error)
            raise

    def _read(self, seen: tuple) -> None:
        same_base = bool(self._seen) and seen[0] == self._seen[0]
        if not (same_base and self._read_on()):
            records = list(self._records())
            base = self._snapshot.base if same_base else self._read_base(seen[0])
            self._replay(Tail(base, self.identity), records)
        self._seen = seen

    def _read_on(self) -> bool:
        """Take in what the journal has beyond what is known; False if it is another one."""
        try:
            self._replay(self._tail, self._new_records())
        except journal.Replaced:
            return False
        return True

    def _read_base(self, seen: tuple | None) -> Base | None:
        if seen is None:
            continues = journal.continues_base(journal_path(self.path))
            if not self.path.exists():  # asked last: what a journal continues is there before
                if continues:
                    raise SidecarMissing(
                        f"{self.path.name} is missing beside the database, and its journal is no "
                        "use without it: put it back, or run 'datasette image-search repair' on "
                        "the database."
                    )
                return None  # the first batches: all there is stands in the journal
        return base_file.read(self.path, self.identity)

    def _records(self, start: int = 0, header: bytes = b"") -> Iterator[journal.Record]:
        return journal.read(journal_path(self.path), self.identity, start, header)

    def _new_records(self) -> Iterator[journal.Record]:
        return self._records(self._tail.end, self._tail.header)

    def _replay(self, tail: Tail, records: Iterable[journal.Record]) -> None:
        for record in records:
            tail.apply(record)
        self._tail = tail
        self._snapshot = tail.snapshot()

    # -- asking ---------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.refresh())

    @property
    def kind(self) -> str:
        """The kind of index that answers: ``exact`` while there is no file yet."""
        base = self._snapshot.base
        return "exact" if base is None else base.kind

    @property
    def bytes(self) -> int:
        """The size of the sidecar and its journal on disk."""
        return sum(found[1] for found in self._stamps() if found)

    def ids(self) -> np.ndarray:
        """Every id in the index (int64), in no particular order."""
        snapshot = self.refresh()
        return snapshot.ids_at(snapshot.every_place())

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """A boolean for each id: is its vector here?"""
        return self.refresh().places(np.asarray(ids, np.int64)) >= 0

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """The stored vectors (n × d float32) of ``ids``, all of which must be here."""
        snapshot = self.refresh()
        places = snapshot.places(np.asarray(ids, np.int64))
        missing = int((places < 0).sum())
        if missing:
            raise SidecarError(
                f"{self.path.name} lacks {missing} of {len(ids)} vectors asked for: "
                "run 'datasette image-search embed' on the collection again."
            )
        return snapshot.read(places)

    def vector(self, id: int) -> np.ndarray | None:
        """The stored vector (d float32) of one id, or None where it is not here."""
        snapshot = self.refresh()
        place = snapshot.places(np.array([id], np.int64))
        return snapshot.read(place)[0] if place[0] >= 0 else None

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> list[Neighbours]:
        """The ``k`` nearest to each query (q × d float32), among ``allowed`` ids if given.

        Fewer than ``k`` only where fewer are there. Equals among those found are in the order
        of ids; of more equals than are asked for, any may be found. A wide filter is quickest
        with its ids in ascending order.
        """
        return self.refresh().search(queries, k, allowed)


class EmptySidecar(Sidecar):
    """A collection's vectors while there are none; it looks at no file."""

    def refresh(self) -> Snapshot:
        return self._snapshot


class SidecarWriter(Sidecar):
    """A sidecar that one process at a time may change: ``add``, ``remove``, ``save``.

    A context manager; raises :class:`Busy` where another process holds it. What was
    added is on disk, and searched by others, when ``add`` returns.
    """

    # Beyond these many bytes of journal, or this share of the base, a whole write pays.
    JOURNAL_BYTES = 64 * 2**20
    JOURNAL_SHARE = 0.25
    JOURNAL_MOST = 512 * 2**20  # it is in memory, here and in every reader
    # A journal this small may stay when the work is done: it costs a search nothing.
    RESTING_VECTORS = 1000

    def __init__(self, path: Path, identity: Identity, index: str = "auto"):
        self._kind = index
        path = Path(path)
        self._journal: journal.JournalWriter | None = None
        self._process_lock = hold(path).lock
        try:
            unlink_partials(path)
            super().__init__(path, identity)
            self._journal = journal.JournalWriter(
                journal_path(self.path), identity, self._tail.end, self._snapshot.base is not None
            )
        except BaseException:
            self._process_lock.release()
            raise

    def refresh(self) -> Snapshot:
        """Nobody else writes: what is in memory is what is on disk."""
        if self._journal is None and any(self._stamps()):
            super().refresh()
        return self._snapshot

    def require_files(self) -> None:
        """Raise :class:`SidecarMissing` where there is nothing yet to go on with."""
        if not any(self._stamps()):
            raise missing(self.path)

    def __enter__(self) -> SidecarWriter:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        self._journal.close()
        self._process_lock.release()

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add vectors (n × d) under new ids; durable when this returns.

        Raises :class:`SidecarError`, and adds none, where one of them is no such vector.
        """
        ids, vectors = np.asarray(ids, np.int64), np.ascontiguousarray(vectors, np.float32)
        self.identity.refuse_unfit(vectors, len(ids), self.path.name)
        if self.identity.metric == "cosine":
            vectors = normalised(vectors)
        self._append(journal.encode_add(ids, vectors))

    def remove(self, ids: np.ndarray) -> None:
        """Forget the vectors of ``ids``; durable when this returns."""
        ids = np.asarray(ids, np.int64)
        if len(ids):
            self._append(journal.encode_remove(ids))

    def _append(self, record: bytes) -> None:
        with self._lock:
            self._journal.append(record)
            self._replay(self._tail, self._new_records())

    def save_if_due(self) -> None:
        """A whole write, if the journal has grown enough to be worth one."""
        with self._lock:  # of two that ask at the same time, one writes
            base = 0 if self._snapshot.base is None else self._snapshot.base.bytes
            share = min(self.JOURNAL_SHARE * base, self.JOURNAL_MOST)
            if self._tail.end > max(self.JOURNAL_BYTES, share):
                self.save()

    def finish(self) -> None:
        """A whole write, unless the journal is so small beside the base that it may stay."""
        changed = len(self._tail)
        small = changed <= self.RESTING_VECTORS and len(self) > 50 * changed
        another = self._kind not in ("auto", self.kind)
        if self._snapshot.base is None or another or (changed and not small):
            self.save()
        elif not changed and self._tail.end:
            # All that it says is in the base: a kill came between a whole write and its end.
            self._begin_anew(self._snapshot.base)

    def save(self, kind: str | None = None, *, learn: bool = False) -> None:
        """Write everything into a new file and put it in the old one's place.

        Vectors stream from the old file and the journal's into the new one, which goes on
        with what the old index has learnt if that may still hold, unless told to ``learn``.
        Raises :class:`SidecarDamaged`, and writes nothing, where the old file is damaged.
        """
        with self._lock:
            snapshot = self._snapshot
            places = snapshot.every_place()
            ids = snapshot.ids_at(places)
            chosen = engine.choose(kind or self._kind, len(ids), self.identity.dimensions)
            base, earlier = snapshot.base, None
            if base is not None:
                # A large file was not compared when it was opened: the new one would vouch
                # for what is wrong in it.
                base_file.check_blocks(self.path, base.vectors.descriptor, base.footer)
                if not learn:
                    earlier = base.as_earlier(places[places < len(base.ids)])
            base_file.write(
                self.path,
                ids,
                lambda rows: snapshot.read(places[rows]),
                chosen,
                self.identity,
                earlier,
            )
            self._begin_anew(base_file.read(self.path, self.identity))

    def _begin_anew(self, base: Base) -> None:
        """Without a journal, which says nothing that is not in ``base``."""
        with self._lock:
            self._journal.clear()
            self._replay(Tail(base, self.identity), [])
