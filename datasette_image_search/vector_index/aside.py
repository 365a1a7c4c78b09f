"""Files that are set aside: under a name of their own, beside the one that they had."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from .files import copy, journal_path

DAMAGED = "-damaged"


def set_aside(path: Path) -> Path:
    aside = free_name(path)
    os.replace(path, aside)
    return aside


def second_name(path: Path, ending: str = DAMAGED) -> Path:
    """The file as it is, under a name that stays when another takes its place."""
    aside = free_name(path, ending)
    try:
        os.link(path, aside)
    except OSError:  # not every file system has second names
        copy(path, aside)
    return aside


def free_name(path: Path, ending: str = DAMAGED) -> Path:
    """What was set aside before stays, for it may have what this file has not."""
    names = (f"{path.name}-{number}{ending}" for number in count(2))
    aside = path.with_name(f"{path.name}{ending}")
    while os.path.lexists(aside) or os.path.lexists(journal_path(aside)):
        aside = path.with_name(next(names))
    return aside
