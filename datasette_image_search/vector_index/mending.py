"""Finding damage in a sidecar and its journal, and keeping what is whole."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import SidecarError, SidecarMissing
from . import base_file, journal
from .identity import Identity
from .lock import hold
from .sidecar import journal_path


def problems(path: Path, identity: Identity) -> list[str]:
    """A sentence for each thing that is wrong; reads every byte of both files."""
    found = []
    try:
        base_file.read(path, identity, thorough=True)
    except SidecarMissing as error:
        if not journal_path(path).exists():
            found.append(str(error))
    except SidecarError as error:
        found.append(str(error))
    try:
        for _ in journal.read(journal_path(path), identity):
            pass
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
    except SidecarMissing:
        pass
    except SidecarError as error:
        return [f"{error.args[0].partition(':')[0]}: {_set_aside(path)}."]
    return []


def _mend_journal(path: Path, identity: Identity) -> list[str]:
    file = journal_path(path)
    try:
        for _ in journal.read(file, identity):
            pass
        return []
    except SidecarError:
        pass
    whole = list(journal.whole_records(file, identity))
    aside = _set_aside(file)
    if whole:
        writer = journal.JournalWriter(file, identity, 0)
        for record in whole:
            if record.vectors is None:
                writer.append(journal.encode_remove(record.ids))
            else:
                writer.append(journal.encode_add(record.ids, record.vectors))
        writer.close()
    return [f"{file.name} is damaged: {len(whole)} whole records were kept, {aside}."]


def _set_aside(path: Path) -> str:
    aside = path.with_name(f"{path.name}-damaged")
    os.replace(path, aside)
    return f"it is now {aside.name}"
