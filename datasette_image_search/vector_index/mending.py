"""Finding damage in a sidecar and its journal, and keeping what is whole."""

from __future__ import annotations

from pathlib import Path

from ..errors import SidecarError, SidecarMissing
from . import base_file, journal, salvage
from .aside import free_name, second_name, set_aside
from .files import Unsettled, copy, journal_path, replacing
from .identity import Identity
from .lock import hold
from .sidecar import Sidecar


def problems(path: Path, identity: Identity) -> list[str]:
    """A sentence for each thing that is wrong; reads every byte of both files."""
    found = []
    try:
        base_file.read(path, identity, thorough=True)
    except SidecarMissing:
        pass
    except SidecarError as error:
        found.append(str(error))
    try:
        for _ in journal.read(journal_path(path), identity):
            pass
        if not path.exists():
            Sidecar(path, identity)  # is the journal all there is, or does it need a base?
    except SidecarError as error:
        found.append(str(error))
    return found


def mend(path: Path, identity: Identity) -> list[str]:
    """Set aside what cannot be used, keep every whole record; sentences on what was done.

    Nothing is deleted: a damaged file gets the ending ``-damaged``.
    """
    with hold(path):
        return [*_mend_base(path, identity), *_mend_journal(path, identity)]


def _mend_base(path: Path, identity: Identity) -> list[str]:
    try:
        base_file.read(path, identity, thorough=True)
        return []
    except SidecarMissing:
        return []
    except SidecarError as error:
        said = error.args[0].partition(":")[0]
    try:
        kept = salvage.whole_vectors(path, identity)
    except SidecarError:  # nothing is known of what is in it
        return [f"{said}: it is now {set_aside(path).name}."]
    if len(kept.ids):
        aside = second_name(path)  # not another: killed at any moment, one finds it here
        try:
            base_file.write(path, kept.ids, kept.read, kept.kind, identity)
        except BaseException as error:
            if not _in_place(path, error):
                aside.unlink()  # a full disk: another time there may be room
            raise
    else:
        aside = set_aside(path)
    kept_of = f"{len(kept.ids):,} of {kept.count:,} vectors were kept"
    return [f"{said}: {kept_of}, it is now {aside.name}."]


def _mend_journal(path: Path, identity: Identity) -> list[str]:
    file = journal_path(path)
    alone = not path.exists() and journal.continues_base(file)
    try:
        for _ in journal.read(file, identity):
            pass
        if not alone:
            return []
        said = f"{path.name} is missing beside {file.name}"
    except SidecarError:
        said = f"{file.name} is damaged"
    whole = list(journal.whole_records(file, identity))
    aside = _write_anew(file, whole, identity, path.exists()) if whole else set_aside(file)
    return [f"{said}: {len(whole)} whole records were kept, it is now {aside.name}."]


def _write_anew(
    file: Path, records: list[journal.Record], identity: Identity, continues: bool
) -> Path:
    """A journal of these records in the other's place, of which a copy is kept."""
    aside = free_name(file)
    try:
        with replacing(file) as new:
            new.write(journal.encode_identity(identity, continues))
            for record in records:
                new.write(record.encoded())
            copy(file, aside)  # not a rename: at any moment, a journal is there
    except BaseException as error:
        if not _in_place(file, error):
            aside.unlink(missing_ok=True)
        raise
    return aside


def _in_place(path: Path, error: BaseException) -> bool:
    """Is the new file at ``path`` all the same? What was there is then aside alone."""
    return isinstance(error, Unsettled) and error.path == path
