"""An embed with nothing to do, and a checkpoint's cost, as a collection grows.

    python -m benchmarks.unchanged [--paths 100000] [--runs 3]

A table of so many paths, each with a small file that exists, and a collection of `mini`
that has embedded them: its rows are written as an embed writes them, its vectors are drawn
(256 wide). Then the whole command `datasette image-search embed` is measured, from the
start of the process to its end, with nothing to do and with one picture changed.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

FILES_A_FOLDER = 1000


def draw_files(folder: Path, count: int) -> list[str]:
    """``count`` files, not pictures: nothing reads them. Their paths below ``folder``."""
    paths = []
    for number in range(count):
        place = folder / f"{number // FILES_A_FOLDER:04}"
        if number % FILES_A_FOLDER == 0:
            place.mkdir(parents=True)
        path = place / f"{number:07}.png"
        path.write_bytes(b"%d" % number)
        paths.append(path.relative_to(folder).as_posix())
    return paths


def build(work: Path, count: int) -> Path:
    """A database whose collection is complete; as an embed of ``count`` pictures leaves it."""
    from datasette_image_search import catalog, pictures
    from datasette_image_search.catalog import Outcome, Picture, RowsWriter
    from datasette_image_search.collection import EmbedOptions, embed
    from datasette_image_search.collection.search import identity_of
    from datasette_image_search.sources import Sources
    from datasette_image_search.vector_index import SidecarWriter

    folder = work / "pictures"
    paths = draw_files(folder, count)
    Image.new("RGB", (32, 32)).save(folder / paths[0])
    database = work / "photos.db"
    plain = sqlite3.connect(database)
    plain.execute("create table photos (id integer primary key, path text)")
    plain.execute("insert into photos values (0, ?)", (paths[0],))
    plain.commit()
    # The first is embedded, so that the collection is as any other ...
    embed(database, "photos", EmbedOptions(column="path", model="mini", root=folder))
    plain.executemany("insert into photos values (?, ?)", list(enumerate(paths))[1:])
    plain.commit()
    plain.close()
    # ... and the others are written down without their being decoded.
    conn = catalog.connect(database, write=True)
    record = catalog.require(conn, "photos")
    sources = Sources(folder)
    outcomes, made, ids = [], [], []
    for number, path in list(enumerate(paths))[1:]:
        digest = pictures.sha256(b"%d" % number)
        ids.append(pictures.picture_id(digest))
        fingerprint = sources.fetch(path).fingerprint
        outcomes.append(Outcome((number,), path, fingerprint, ids[-1]))
        made.append(Picture(ids[-1], digest, 32, 32, b"\xff\xd8\xff" * 1000))
    with catalog.transaction(conn):
        RowsWriter(conn, record).record(outcomes, made)
    random = np.random.default_rng(0)
    with SidecarWriter(record.sidecar_path(conn), identity_of(record)) as index:
        for start in range(0, len(ids), 10_000):
            part = np.array(ids[start : start + 10_000])
            index.add(part, random.standard_normal((len(part), record.dimensions), np.float32))
            index.save_if_due()
        index.save()
    conn.close()
    return database


def command(database: Path) -> tuple[float, float, str]:
    """Seconds for the whole command, seconds of processors in it, and its summary."""
    before = processor_seconds()
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "datasette", "image-search", "embed", str(database), "photos"],
        capture_output=True,
        text=True,
        check=True,
    )
    taken = time.perf_counter() - began
    return taken, processor_seconds() - before, done.stdout.strip()


def processor_seconds() -> float:
    """What the processes started from here have had, now that they have ended."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paths", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        database = build(work, arguments.paths)
        command(database)  # warm up: the page cache
        nothing, one = [], []
        for run in range(arguments.runs):
            *taken, said = command(database)
            assert said.startswith("0 embedded, 0 reused, 0 removed, 0 failed, "), said
            nothing.append(taken)
            picture = np.full((32, 32, 3), 17 * run % 256, np.uint8)
            Image.fromarray(picture).save(work / "pictures/0000/0000001.png")
            os.utime(work / "pictures/0000/0000001.png", ns=(run, run))
            *taken, said = command(database)
            assert said.startswith("1 embedded") or said.startswith("0 embedded, 1"), said
            one.append(taken)
    print(f"{arguments.paths:,} paths, medians of {arguments.runs} runs of the whole command")
    for name, runs in (("nothing to do", nothing), ("one picture changed", one)):
        seconds, processor = (statistics.median(values) for values in zip(*runs))
        print(f"  {name:22} {seconds:6.2f} s, of them {processor:6.2f} s of processors")


if __name__ == "__main__":
    main()
