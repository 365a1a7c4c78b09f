"""A collection's vectors: the sidecar file and the journal beside it, as one index.

Resembles a small log-structured store: a large file that is only ever replaced
(the base), and a journal of what has come since, searched together. Not for: many
writers (one at a time, by a lock), or more recent vectors than fit in memory.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ..errors import Busy, SidecarError, SidecarMissing
from . import base_file, engine, journal
from .identity import Identity
from .tail import Tail


@dataclass(frozen=True)
class Neighbours:
    """The nearest of one query, nearest first: three arrays of the same length.

    ``scores`` are cosine similarities, ``distances`` L2 distances, both float64,
    both computed from the stored vectors and not from an approximation of them.
    """

    ids: np.ndarray
    scores: np.ndarray
    distances: np.ndarray


def journal_path(path: Path) -> Path:
    return path.with_name(path.name + "-journal")


def lock_path(path: Path) -> Path:
    return path.with_name(path.name + "-lock")


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to length 1 along the last axis; zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


class Sidecar:
    """A collection's vectors, for reading: ``search``, ``vectors``, ``contains``.

    Every call first looks whether a writer has added something, and takes it in:
    a server needs no restart. One object may be used by many threads.
    """

    def __init__(self, path: Path, identity: Identity):
        self.path = Path(path)
        self.identity = identity
        self._lock = threading.RLock()
        self._base: base_file.Base | None = None
        self._tail = Tail(identity.dimensions)
        self._seen: tuple = ()
        self.refresh()

    # -- following the files ------------------------------------------------

    def refresh(self) -> None:
        """Take in what has changed on disk; two ``stat`` calls when nothing has."""
        with self._lock:
            seen = (_stamp(self.path), _stamp(journal_path(self.path)))
            if seen == self._seen:
                return
            if not any(seen):
                raise SidecarMissing(
                    f"{self.path.name} is missing beside the database: put it back, "
                    "or run 'datasette image-search embed' on the table again."
                )
            self._read(seen)

    def _read(self, seen: tuple) -> None:
        same_base = self._seen and seen[0] == self._seen[0]
        same_journal = self._seen and _grown(self._seen[1], seen[1])
        if not (same_base and same_journal):
            # The journal first: between the two a writer may turn it into a new base.
            tail = Tail(self.identity.dimensions)
            self._replay(tail)
            if not same_base:
                self._base = self._read_base(seen[0])
            tail.rebase(self._base)
            self._tail = tail
        else:
            self._replay(self._tail)
            self._tail.rebase(self._base)
        self._seen = seen

    def _read_base(self, stamp: tuple | None) -> base_file.Base | None:
        if stamp is None and not self.path.exists():
            return None  # the first batches: all there is stands in the journal
        return base_file.read(self.path, self.identity)

    def _replay(self, tail: Tail) -> None:
        for record in journal.read(journal_path(self.path), self.identity, tail.end):
            tail.apply(record)

    # -- asking ---------------------------------------------------------------

    def __len__(self) -> int:
        with self._lock:
            self.refresh()
            base = 0 if self._base is None else len(self._base.ids)
            return base - len(self._tail.removed) + len(self._tail)

    @property
    def kind(self) -> str:
        """The kind of index that answers: ``exact`` while there is no file yet."""
        return "exact" if self._base is None else self._base.kind

    @property
    def bytes(self) -> int:
        """The size of the sidecar and its journal on disk."""
        paths = (self.path, journal_path(self.path))
        return sum(stamp[1] for stamp in map(_stamp, paths) if stamp)

    def ids(self) -> np.ndarray:
        """Every id in the index (int64), in no particular order."""
        with self._lock:
            self.refresh()
            return self._ids()

    def _ids(self) -> np.ndarray:
        tail = self._tail.ids()
        if self._base is None:
            return tail
        keep = self._tail.excluded(self._base)
        base = self._base.ids if keep is None else self._base.ids[~keep]
        return np.concatenate([np.asarray(base), tail])

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """A boolean for each id: is its vector here?"""
        with self._lock:
            self.refresh()
            return self._positions(np.asarray(ids, np.int64))[0]

    def _positions(self, ids: np.ndarray):
        """(found, position in the base or -1, row in the tail or -1) of each id."""
        in_tail = self._tail.rows(ids)
        in_base = np.full(len(ids), -1, np.int64)
        if self._base is not None:
            in_base = self._base.positions(ids)
            if self._tail.removed:
                gone = np.isin(ids, self._tail.removed_ids())
                in_base[gone] = -1
        return (in_tail >= 0) | (in_base >= 0), in_base, in_tail

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """The stored vectors (n × d float32) of ``ids``, all of which must be here."""
        with self._lock:
            self.refresh()
            return self._vectors(np.asarray(ids, np.int64))

    def _vectors(self, ids: np.ndarray) -> np.ndarray:
        found, in_base, in_tail = self._positions(ids)
        if not found.all():
            missing = int((~found).sum())
            raise SidecarError(
                f"{self.path.name} lacks {missing} of {len(ids)} vectors asked for: "
                "run 'datasette image-search embed' on the table again."
            )
        vectors = np.empty((len(ids), self.identity.dimensions), np.float32)
        from_tail = in_tail >= 0
        vectors[from_tail] = self._tail.matrix()[in_tail[from_tail]]
        if self._base is not None:
            vectors[~from_tail] = engine.vectors_at(self._base.index, in_base[~from_tail])
        return vectors

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> list[Neighbours]:
        """The ``k`` nearest to each query (q × d float32), among ``allowed`` ids if given.

        Fewer than ``k`` only where fewer are there. Ties are in the order of ids.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if self.identity.metric == "cosine":
            queries = normalised(queries)
        with self._lock:
            self.refresh()
            if allowed is not None:
                candidates = np.unique(np.asarray(allowed, np.int64))
                candidates = candidates[self._positions(candidates)[0]]
                found = self._vectors(candidates)
                return [self._nearest(query, candidates, found, k) for query in queries]
            return self._search_all(queries, k)

    def _search_all(self, queries: np.ndarray, k: int) -> list[Neighbours]:
        rows = [np.empty(0, np.int64)] * len(queries)
        base = self._base
        if base is not None and len(base.ids):
            excluded = self._tail.excluded(base)
            wanted = min(k, len(base.ids))
            positions = engine.search(base.index, queries, wanted, excluded)
            rows = [base.ids[row[row >= 0]] for row in positions]
        neighbours = []
        for query, ids in zip(queries, rows):
            ids = np.concatenate([np.asarray(ids), self._tail.nearest(query, k)])
            neighbours.append(self._nearest(query, ids, self._vectors(ids), k))
        return neighbours

    def _nearest(self, query, ids, vectors, k: int) -> Neighbours:
        """Order candidates by their true distance; float64, so that ties are ties."""
        scores, distances = compare(query, vectors)
        nearness = -scores if self.identity.metric == "cosine" else distances
        best = np.lexsort((ids, nearness))[:k]
        return Neighbours(ids[best], scores[best], distances[best])


def compare(query: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarities and L2 distances (n float64 each) of ``query`` to ``vectors``."""
    query = query.astype(np.float64)
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    scores = (vectors @ query) / np.where(lengths == 0, 1, lengths)
    distances = np.linalg.norm(vectors - query, axis=1)
    return np.clip(scores, -1, 1), distances


class SidecarWriter(Sidecar):
    """A sidecar that one process at a time may change: ``add``, ``remove``, ``save``.

    A context manager; raises :class:`Busy` where another process holds it. What was
    added is on disk, and searched by others, when ``add`` returns.
    """

    # Beyond these many bytes of journal, or this share of the base, a whole write pays.
    JOURNAL_BYTES = 64 * 2**20
    JOURNAL_SHARE = 0.25
    # A journal this small may stay when the work is done: it costs a search nothing.
    RESTING_VECTORS = 1000

    def __init__(self, path: Path, identity: Identity, index: str = "auto"):
        self._kind = index
        path = Path(path)
        self._process_lock = FileLock(lock_path(path), timeout=0)
        self._journal: journal.JournalWriter | None = None
        try:
            self._process_lock.acquire()
        except Timeout:
            raise Busy(_held_by(path)) from None
        try:
            lock_path(path).write_text(str(os.getpid()))
            super().__init__(path, identity)
            self._journal = journal.JournalWriter(journal_path(self.path), identity, self._tail.end)
        except BaseException:
            self._process_lock.release()
            raise

    def refresh(self) -> None:
        """Nobody else writes: what is in memory is what is on disk."""
        if self._journal is None and any((_stamp(self.path), _stamp(journal_path(self.path)))):
            super().refresh()

    def __enter__(self) -> SidecarWriter:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        self._journal.close()
        self._process_lock.release()

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add vectors (n × d) under new ids; durable when this returns."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        if self.identity.metric == "cosine":
            vectors = normalised(vectors)
        self._append(journal.encode_add(np.asarray(ids, np.int64), vectors))

    def remove(self, ids: np.ndarray) -> None:
        """Forget the vectors of ``ids``; durable when this returns."""
        ids = np.asarray(ids, np.int64)
        if len(ids):
            self._append(journal.encode_remove(ids))

    def _append(self, record: bytes) -> None:
        with self._lock:
            self._journal.append(record)
            self._replay(self._tail)
            self._tail.rebase(self._base)

    def save_if_due(self) -> None:
        """A whole write, if the journal has grown enough to be worth one."""
        base = 0 if self._base is None else self._base.bytes
        if self._tail.end > max(self.JOURNAL_BYTES, self.JOURNAL_SHARE * base):
            self.save()

    def finish(self) -> None:
        """A whole write, unless the journal is so small beside the base that it may stay."""
        changed = len(self._tail) + len(self._tail.removed)
        small = self._base is not None and changed <= self.RESTING_VECTORS
        if self._base is None or (changed and not (small and len(self) > 50 * changed)):
            self.save()

    def save(self, kind: str | None = None) -> None:
        """Write everything into a new file and put it in the old one's place."""
        with self._lock:
            ids = self._ids()
            chosen = engine.choose(kind or self._kind, len(ids))
            index = engine.build(chosen, self._vectors(ids), self.identity.metric)
            base_file.write(self.path, index, ids, chosen, self.identity)
            self._journal.clear()
            self._base = base_file.read(self.path, self.identity)
            self._tail = Tail(self.identity.dimensions)


def _held_by(path: Path) -> str:
    try:
        holder = f"process {int(lock_path(path).read_text())}"
    except (OSError, ValueError):
        holder = "another process"
    return f"{path.name} is being written by {holder}: wait until it has finished."


def _stamp(path: Path) -> tuple | None:
    """What tells one state of a file from another: inode, size, time of change."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _grown(before: tuple | None, after: tuple | None) -> bool:
    """Is it the same journal, with more at its end at most?"""
    if before is None or after is None:
        return before is after
    return before[0] == after[0] and before[1] <= after[1]
