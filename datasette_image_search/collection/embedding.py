"""embed(): from a table's rows to vectors in the sidecar; what is new or changed, no more."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from .. import catalog, models, pictures
from ..catalog import Candidate, Outcome, Picture, RowsWriter
from ..sources import Sources, is_path
from ..vector_index import SidecarWriter, mend
from .choosing import Chosen, EmbedOptions, collection_for, settle
from .folders import files_folder, folder_missing, refuse_another_tables_files
from .leftovers import beside_leftover
from .looking import Looking
from .others import is_there
from .progress import Progress
from .reading import Read, Reader
from .search import identity_of

# What a network says suits its device; this for one that says nothing.
DEFAULT_BATCH = 16
# Rows that needed no network are written down at least this often.
_FLUSH_ROWS = 500


@dataclass
class Summary:
    """What an embed did: distinct pictures embedded; rows reused, removed and failed."""

    embedded: int = 0
    reused: int = 0
    removed: int = 0
    failed: int = 0
    unchanged: int = 0
    folder: Path | None = None  # where files were looked for, if the table names files
    column: str = ""

    @property
    def all_failed(self) -> bool:
        return self.failed > 0 and not (self.embedded or self.reused or self.unchanged)

    def __str__(self) -> str:
        said = (
            f"{self.embedded:,} embedded, {self.reused:,} reused, "
            f"{self.removed:,} removed, {self.failed:,} failed"
        )
        return said + (f", {self.unchanged:,} unchanged" if self.unchanged else "")


def embed(
    database: Path,
    table: str,
    options: EmbedOptions = EmbedOptions(),
    *,
    extra_models: list | None = None,
    progress: Progress = Progress(),
) -> Summary:
    """Embed what is new or changed in ``table``, forget what is gone.

    A row that fails is recorded with its reason and stops nothing. Interrupted at any
    moment, the next call goes on from the last batch.
    """
    with catalog.opened(database, write=True) as conn:
        chosen = collection_for(conn, Path(database), table, options, extra_models)
        record = chosen.record
        path, identity = record.sidecar_path(conn), identity_of(record)
        # What was guessed or remembered; of a stranger's database, which files it names.
        folder = files_folder(conn, record)
        if options.root is None:
            refuse_another_tables_files(conn, record)
        where = f"; files are looked for in {folder}" if folder else ""
        progress.tell(f"{record.table_name}.{record.column_name} with {record.model}{where}.")
        before = f"{chosen.before.table_name}.{chosen.before.column_name}"
        if before != f"{record.table_name}.{record.column_name}":
            progress.tell(f"into {record.name!r}, which was of {before}, until that had gone.")
        if record.key_columns == ("rowid",):
            progress.tell(
                f"{record.table_name}, which has no primary key: after a VACUUM, which may number "
                "its rows anew, embed must be run again. 'sqlite-utils transform DATABASE TABLE "
                "--pk COLUMN' gives it one."
            )
        has_just_begun = is_there(conn, chosen.before) and RowsWriter(conn, record).is_empty()
        if has_just_begun:
            mend(path, identity)  # what lies there may be left of another collection
        with SidecarWriter(path, identity, record.index_kind) as index:
            settle(conn, chosen)
            with beside_leftover(index, has_just_begun, progress):
                work = _Embedding(conn, chosen, index, options, progress)
                work.summary.folder, work.summary.column = folder, record.column_name
                return work.run()


# -- the work -------------------------------------------------------------------------


class _Embedding:
    """One run: rows are read ahead, and written down here while the network is at work."""

    def __init__(self, conn, chosen: Chosen, index, options, progress):
        self.conn = conn
        self.chosen = chosen
        self.record = record = chosen.record
        self.index = index
        self.options = options
        self.progress = progress
        self.rows = RowsWriter(conn, record)
        self._looking = Looking(conn, record)
        self.sources = Sources(
            record.root_path(conn),
            allow_private=options.allow_private_urls,
            values=self._looking.values,
            told=progress.tell,
        )
        self.summary = Summary()
        self._batch: list[Read] = []  # decoded, waiting for the network
        self._at_work: deque[tuple[list[Read], Future]] = deque()  # what the network has now
        self._waiting: dict[int, list[Outcome]] = {}  # rows whose picture is in one of these
        self._outcomes: list[Outcome] = []  # rows whose fate is known
        self._pictures: list[Picture] = []  # whose vectors were there already
        self._loaded = chosen.network
        self._workers: ThreadPoolExecutor | None = None
        self._closing = ExitStack()

    def run(self) -> Summary:
        self._forget_gone()
        self.progress.start(self.rows.count_candidates())
        self._leave_unreadable()
        geometry = pictures.Geometry(self.chosen.model.input_size, self.record.resize)
        reader = Reader(
            self.sources,
            geometry,
            thumbnails=self.record.thumbnails,
            blob=self._looking.blob,
            is_known=self._is_known,
        )
        with closing(self._looking), self._closing, reader:
            for page in self.rows.candidates():
                changed = self._changed(page)
                for read in reader.read(changed):
                    self._take(read)
            while self._batch or self._at_work:
                self._embed_batch()
        self._write_down()
        self._forget_unused()
        self.index.finish()
        with catalog.transaction(self.conn):
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            catalog.update(self.conn, self.record.id, finished=now)
        return self.summary

    def _is_known(self, id: int, digest: str) -> bool:
        """Are both the vector of a picture there and what the catalog keeps of it?"""
        if not self.index.contains([id])[0]:
            return False
        return self._is_complete(self._looking.shows(id, digest))

    def _is_complete(self, shown: int | None) -> bool:
        """Has the catalog all that is wanted of a picture? ``shown`` as in Candidate."""
        return shown is not None and bool(shown or not self.record.thumbnails)

    def _changed(self, page: list[Candidate]) -> list[Candidate]:
        """The rows of a page that want reading; the others are counted and left."""
        self._check_root(page)
        ids = np.array([row.picture if row.picture is not None else -1 for row in page], np.int64)
        embedded = self.index.contains(ids)
        changed = []
        for row, has_vector in zip(page, embedded):
            known = has_vector and self._is_complete(row.shown)
            same = known and row.error is None and row.value == row.source
            if same and row.value and self.sources.unchanged(row.value, row.fingerprint):
                self.summary.unchanged += 1
            else:
                changed.append(row if known else replace(row, fingerprint=None))
        self.progress.advance(len(page) - len(changed))
        return changed

    def _leave_unreadable(self) -> None:
        with catalog.transaction(self.conn):
            self.summary.failed = self.rows.record_unreadable()
        self.progress.advance(self.summary.failed)

    def _check_root(self, page: list[Candidate]) -> None:
        # A folder that is not mounted is one mistake, not one for each row.
        root = self.sources.root
        if not root.is_dir() and any(is_path(row.value) for row in page):
            raise folder_missing(root)

    def _take(self, read: Read) -> None:
        """Sort one row: known already, waiting for the network, or failed."""
        row = read.row
        known = read.fingerprint, read.picture, read.error, read.is_other
        outcome = Outcome(row.key, row.value, *known)
        if read.error is not None:
            self.summary.failed += 1
            self._outcomes.append(outcome)
        elif read.picture in self._waiting:
            self.summary.reused += 1
            self._waiting[read.picture].append(outcome)
        elif read.prepared is None or self.index.contains([read.picture])[0]:
            if read.prepared is not None:
                self._pictures.append(_picture(read))
            if read.picture != row.picture or row.value != row.source:
                self.summary.reused += 1
                self._outcomes.append(outcome)
            else:
                self.summary.unchanged += 1
                if row.error is not None or read.fingerprint != row.fingerprint:
                    self._outcomes.append(outcome)
        else:
            self._waiting[read.picture] = [outcome]
            self._batch.append(read)
        self.progress.advance(1)
        if self._batch and len(self._batch) >= self._batch_size():
            self._embed_batch()
        elif self._at_work and self._at_work[0][1].done():
            self._finish_batch()
        if len(self._outcomes) >= _FLUSH_ROWS:
            self._write_down()

    def _embed_batch(self) -> None:
        """Give the network the batch; while it is at work, write down those before.

        Where there is none, all that it still has.
        """
        batch, self._batch = self._batch, []
        most = 0
        if batch:
            most = models.batches_at_once(self._network())
            self._at_work.append((batch, self._workers.submit(self._embed, batch)))
        while len(self._at_work) > most:
            self._finish_batch()

    def _embed(self, batch: list[Read]) -> None:
        """In a thread of the network's: what it has made is on disk before it goes on."""
        pixels, record = np.stack([read.prepared.pixels for read in batch]), self.record
        vectors = models.vectors(self._network(), pixels, record.model, record.dimensions)
        self.index.add(np.array([read.picture for read in batch], np.int64), vectors)
        # Not in the main thread, which Ctrl-C interrupts wherever it is.
        self.index.save_if_due()

    def _finish_batch(self) -> None:
        """Write down the rows of the oldest batch: their vectors must be on disk before."""
        batch, work = self._at_work.popleft()
        work.result()
        for read in batch:
            self._pictures.append(_picture(read))
            self._outcomes.extend(self._waiting.pop(read.picture))
        self.summary.embedded += len(batch)
        self._write_down()

    def _batch_size(self) -> int:
        return self.options.batch_size or getattr(self._network(), "batch_size", DEFAULT_BATCH)

    def _network(self) -> models.LoadedModel:
        """Loaded with the first picture that needs it: while it loads, threads read on."""
        if self._loaded is None:
            chosen, options = self.chosen, self.options
            self._loaded = chosen.model.load(chosen.weights, options.device, options.precision)
        if self._workers is None:
            self._workers = self._closing.enter_context(models.workers(self._loaded))
        return self._loaded

    def _write_down(self) -> None:
        """Commit the rows whose fate is known; their vectors are on disk by now."""
        if self._outcomes or self._pictures:
            with catalog.transaction(self.conn):
                self.rows.record(self._outcomes, self._pictures)
        self._outcomes, self._pictures = [], []

    # -- forgetting ---------------------------------------------------------------

    def _forget_gone(self) -> None:
        with catalog.transaction(self.conn):
            self.summary.removed = self.rows.forget_gone()

    def _forget_unused(self) -> None:
        """Remove the vectors and thumbnails that no row has any more."""
        used = self.rows.pictures_in_use()
        stored = self.index.ids()
        self.index.remove(np.setdiff1d(stored, used))
        with catalog.transaction(self.conn):
            # Of rows that have failed: what nothing can embed again is not asked for for ever.
            self.rows.forget_pictures(np.setdiff1d(used, stored))
            every = catalog.collections(self.conn)
            catalog.drop_unused_pictures(self.conn, [record.id for record in every])
            if not self.record.thumbnails:
                kept = [record.id for record in every if record.thumbnails]
                catalog.drop_unwanted_thumbnails(self.conn, kept)


def _picture(read: Read) -> Picture:
    made = read.prepared
    return Picture(read.picture, read.sha256, made.width, made.height, made.thumbnail)
