"""Disks that are full, folders that are closed, sources that go away."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from .embedding import FORKED, Embedding
from .figures import Figure, Said, exactly, none_of
from .shop import TABLE, Truth, add_rows, differences, embed, make
from .urls import misbehaving_urls

BEFORE, AFTER = 120, 200  # rows that are embedded, and rows there are then
PLACES = 60  # limits on a file's size, and sizes of a disk


def disks(folder: Path, size: float) -> list[Figure]:
    """embed where a write fails, wherever that may be: one sentence, and nothing is harmed."""
    made = _Made(folder / "made")
    # Without thumbnails the catalog is the smallest of the files, not the largest.
    bare = _Made(folder / "bare", "--no-thumbnails")
    return [
        *_too_small_files([made, bare], folder, max(5, round(PLACES * size))),
        *_too_small_disks(made, folder, max(5, round(PLACES * size / 2))),
        *_closed(made, folder),
        *_locked(made, folder),
        *_gone(folder),
        *misbehaving_urls(folder),
    ]


# -- a collection to be harmed ----------------------------------------------------------


class _Made:
    """A shop of which a part is embedded: as it was, and as it should become."""

    def __init__(self, folder: Path, *options: str):
        self.folder, self.options = folder, options
        self.before, self.after = Truth(folder / "shop.db"), Truth(folder / "after/shop.db")
        database = make(folder, BEFORE)
        embed(database, *options)
        self.before.read()
        add_rows(database, range(BEFORE + 1, AFTER + 1))
        (folder / "after").mkdir()
        embed(self.copy(folder / "after"), "--root", str(folder), *options)

    @property
    def sizes(self) -> list[int]:
        """Of the files that there are in the end."""
        return [path.stat().st_size for path in (self.folder / "after").glob("shop.*")]

    def copy(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        for path in self.folder.glob("shop.*"):
            shutil.copy2(path, folder)
        return folder / "shop.db"

    def harm(self, database: Path) -> list[str]:
        """What is no longer as it was before: rows, vectors or matches."""
        now = Truth(database)
        kept = {row: known for row, known in self.before.rows.items() if now.rows.get(row) != known}
        wrong = [f"row {row} was {known}" for row, known in kept.items()]
        wrong += [f"vector {id} has gone" for id in self.before.vectors if id not in now.vectors]
        return wrong


def _run(database: Path, made: _Made, before: Callable[[], None] | None = None) -> tuple[int, str]:
    """``embed`` in a fork, after ``before``; its exit code and what it says."""
    reading, writing = FORKED.Pipe(duplex=False)
    arguments = ["image-search", "embed", str(database), TABLE, "--root", str(made.folder)]
    arguments += made.options
    process = FORKED.Process(target=_command, args=(writing, arguments, before))
    process.start()
    writing.close()
    said = b""
    while part := os.read(reading.fileno(), 65536):
        said += part
    process.join()
    reading.close()
    lines = said.decode().strip().splitlines()
    # Not what embed says before it begins.
    return process.exitcode, "\n".join(s for s in lines if not s.startswith("Embedding "))


def _command(writing, arguments: list[str], before) -> None:
    from datasette.cli import cli

    os.dup2(writing.fileno(), 1)
    os.dup2(writing.fileno(), 2)
    if before is not None:
        before()
    cli.main(arguments)


def _is_plain(code: int, said: str) -> str | None:
    """What is wrong with how a command failed: one sentence and exit code 1 are right."""
    lines = [line for line in said.splitlines() if line]
    if code == 1 and len(lines) == 1 and lines[0].startswith("Error: ") and "rror(" not in said:
        return None
    return f"exit code {code}: {said[-300:]}"


# -- no room ------------------------------------------------------------------------------


class _Limit:
    """No file may become larger; a write beyond fails, as on a full disk."""

    def __init__(self, most: int):
        self.most = most

    def __call__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.most, self.most))


def _too_small_files(variants: list[_Made], folder: Path, places: int) -> list[Figure]:
    say, chance, figures = Said("disks"), random.Random(5), []
    for made in variants:
        # Some below the size of each file: where that one cannot be written to its end.
        limits = [
            chance.uniform(1000, 1.02 * size)
            for size in made.sizes
            for _ in range(places // len(variants) // len(made.sizes))
        ]
        outcome = _Outcome(made)
        for number, limit in enumerate(limits):
            database = made.copy(folder / "small")
            outcome.of(database, *_run(database, made, _Limit(int(limit))))
            shutil.rmtree(folder / "small")
            say(f"{number + 1} of {len(limits)} limits on the size of a file")
        options = "".join(f", {option}" for option in made.options)
        figures += outcome.figures(f"{len(limits)} limits on the size of a file{options}")
    return figures


def _too_small_disks(made: _Made, folder: Path, places: int) -> list[Figure]:
    say, chance = Said("disks"), random.Random(6)
    room = sum(path.stat().st_size for path in made.folder.glob("shop.*")) + 4 * 4096
    needed = sum(made.sizes) * 1.6  # the new sidecar stands beside the old one for a moment
    outcome = _Outcome(made)
    mounted = folder / "mounted"
    mounted.mkdir()
    for number in range(places):
        size = f"size={int(chance.uniform(room, needed))}"
        mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(mounted)]
        if subprocess.run(mount, capture_output=True).returncode:
            return [Figure("small disks", "not shown: to mount one needs root")]
        try:
            database = made.copy(mounted)
            code, said = _run(database, made)
            subprocess.run(["mount", "-o", "remount,size=1g", str(mounted)], check=True)
            outcome.of(database, code, said)
        finally:
            subprocess.run(["umount", "--lazy", str(mounted)], check=True)
        say(f"{number + 1} of {places} small disks")
    return outcome.figures(f"{places} sizes of a disk (tmpfs)")


class _Outcome:
    """What came of embeds that had too little room."""

    def __init__(self, made: _Made):
        self.made = made
        self.said: Counter[str] = Counter()
        self.not_plain: list[str] = []
        self.harmed: list[str] = []
        self.unfinished: list[str] = []

    def of(self, database: Path, code: int, said: str) -> None:
        if code:
            fault = _is_plain(code, said)
            self.not_plain += [fault] if fault else []
            self.said[said.replace(f"{database.parent}/", "").removeprefix("Error: ")[:90]] += 1
        else:
            self.said["came to its end"] += 1
        self.harmed += self.made.harm(database)
        code, said = _run(database, self.made)
        if code:
            self.unfinished.append(said[-300:])
        self.unfinished += differences(database, self.made.after)

    def figures(self, what: str) -> list[Figure]:
        failed = sum(self.said.values()) - self.said["came to its end"]
        told = "; ".join(f"{count} × {said}" for said, count in self.said.most_common(4))
        return [
            Figure(what, f"{failed} failed: {told}", failed > 0),
            none_of("failures that were not one sentence with exit code 1", self.not_plain, failed),
            none_of("rows, vectors or matches harmed", self.harmed),
            none_of("not as undisturbed after another run with room", self.unfinished),
        ]


# -- closed and locked ----------------------------------------------------------------


def _become_nobody() -> None:
    if os.geteuid() == 0:
        os.setuid(65534)


def _closed(made: _Made, folder: Path) -> list[Figure]:
    """A folder, and then a database, that cannot be written."""
    figures = []
    for what, mode, file_mode in (("folder", 0o555, 0o666), ("database", 0o777, 0o444)):
        database = made.copy(folder / "closed")
        for path in folder.rglob("*"):
            path.chmod(path.stat().st_mode | 0o555)
        folder.chmod(0o755)
        for path in database.parent.iterdir():
            path.chmod(file_mode)
        database.parent.chmod(mode)
        code, said = _run(database, made, _become_nobody)
        figures.append(
            Figure(f"a {what} that is read-only: one sentence, exit code 1",
                   said.replace(str(folder), "…"), _is_plain(code, said) is None)
        )  # fmt: skip
        figures.append(none_of("and harm", made.harm(database)))
        database.parent.chmod(0o755)
        shutil.rmtree(database.parent)
    return figures


def _locked(made: _Made, folder: Path) -> list[Figure]:
    database = made.copy(folder / "locked")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("begin immediate")
        code, said = _run(database, made)
        other.execute("rollback")
    return [
        Figure("a database locked by another writer: one sentence, exit code 1",
               said.replace(str(folder), "…"), _is_plain(code, said) is None),
        none_of("and harm", made.harm(database)),
    ]  # fmt: skip


# -- sources --------------------------------------------------------------------------


def _gone(folder: Path) -> list[Figure]:
    """The pictures' folder goes away in the middle of a run, as an unmounted disk does."""
    from datasette_image_search.collection import load
    from datasette_image_search.errors import ImageSearchError

    database = make(folder / "gone", 600)
    embed(database)
    truth = Truth(database)
    truth.read()
    pictures = database.parent / "pictures"
    for path in pictures.rglob("*.jpg"):
        os.utime(path)  # all are to be read again
    embedding = Embedding(database)
    embedding.wait_for(100)
    pictures.rename(pictures.with_name("away"))
    code = embedding.end(60, kill=False)
    now = Truth(database)
    lost = [row for row in truth.rows if now.rows[row][1] != truth.rows[row][1]]
    failed = sum(error is not None for _, _, error in now.rows.values())
    vectors = [id for id in truth.vectors if id not in now.vectors]
    pictures.with_name("away").rename(pictures)
    again = Embedding(database).end(60, kill=False)
    figures = [
        Figure("embed whose folder went away: rows failed, of 600", f"{failed}",
               100 < failed < 600 and code == 0),
        none_of("rows that lost their picture, and vectors lost", lost + vectors),
        none_of("otherwise than before, when it is back", differences(database, truth)),
        exactly("exit code then", again, 0),
    ]  # fmt: skip
    load(folder / "photos.db", "photos", pictures)
    refused: Counter[bool] = Counter()
    for share in (0.0, 0.3, 0.6, 0.9):
        every = sorted(pictures.rglob("*.jpg"))
        away = every[int(share * len(every)) :]
        for path in away:
            path.rename(path.with_suffix(".away"))
        try:
            load(folder / "photos.db", "photos", pictures)
        except ImageSearchError as error:
            refused["--prune" in str(error)] += 1
        for path in away:
            path.with_suffix(".away").rename(path)
    return [
        *figures,
        exactly("load with 100, 70, 40 and 10 % of a folder gone: refused, naming --prune",
                refused[True], 2),
    ]  # fmt: skip
