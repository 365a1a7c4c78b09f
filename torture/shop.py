"""A shop with drawn pictures, and the truth about it: vectors computed undisturbed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

HOME = Path(__file__).parent.parent
TABLE = "products"
COMMAND = [sys.executable, "-m", "datasette", "image-search"]
BATCH = 16


def draw(path: Path, seed: int) -> None:
    """A few shapes of any colour, 200 × 160, as no other seed has them."""
    chance = random.Random(seed)
    colour = lambda: tuple(chance.randrange(256) for _ in range(3))  # noqa: E731
    picture = Image.new("RGB", (200, 160), colour())
    pen = ImageDraw.Draw(picture)
    for _ in range(chance.randint(3, 9)):
        x, y = chance.randrange(180), chance.randrange(140)
        box = (x, y, x + chance.randint(10, 120), y + chance.randint(10, 120))
        chance.choice((pen.ellipse, pen.rectangle))(box, fill=colour())
    picture.save(path, quality=85)


def picture_of(id: int) -> str:
    return f"pictures/{id // 100:03}/{id}.jpg"


def make(folder: Path, count: int) -> Path:
    """``folder/shop.db`` with ``count`` rows and their pictures, not embedded yet.

    Every 25th row shows another's picture.
    """
    folder.mkdir(parents=True)
    add_rows(folder / "shop.db", range(1, count + 1))
    return folder / "shop.db"


def add_rows(database: Path, ids: range) -> None:
    for id in ids:
        path = database.parent / picture_of(id)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            draw(path, id)
    with closing(sqlite3.connect(database, timeout=60)) as conn, conn:
        conn.execute(
            f"create table if not exists {TABLE} "
            "(id integer primary key, name text, category text, price real, picture text)"
        )
        conn.executemany(
            f"insert into {TABLE} values (?, ?, ?, ?, ?)",
            [
                (id, f"thing {id}", f"kind {id % 7}", id % 90, picture_of(id - (id % 25 == 24)))
                for id in ids
            ],
        )


def embed_command(database: Path, *more: str, batch: int = BATCH) -> list[str]:
    first = ["--model", "mini", "--column", "picture", "--batch-size", str(batch)]
    return [*COMMAND, "embed", str(database), TABLE, *first, *more]


def embed(database: Path, *more: str) -> str:
    """Embed to the end; what the command says."""
    done = subprocess.run(embed_command(database, *more), capture_output=True, text=True, cwd=HOME)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


@dataclass(frozen=True)
class Truth:
    """A collection that was embedded undisturbed: what every other must come to be."""

    database: Path
    name: str = TABLE

    def read(self) -> None:
        """Remember it now, before anything is harmed."""
        assert self.rows and len(self.matrix)

    @cached_property
    def rows(self) -> dict[int, tuple]:
        """Row → (source, picture, error), as the catalog has it."""
        with closing(sqlite3.connect(self.database)) as conn:
            (number,) = conn.execute(
                "select id from image_search_collections where name = ?", (self.name,)
            ).fetchone()
            found = conn.execute(
                "select image_search_key0, image_search_source, image_search_picture, "
                f"image_search_error from image_search_rows_{number}"
            )
            return {row[0]: row[1:] for row in found}

    @cached_property
    def vectors(self) -> dict[int, np.ndarray]:
        """Picture → its vector (float32, length 1)."""
        collection = open_collection(self.database, self.name)
        ids = collection.index.ids()
        found = dict(zip(ids.tolist(), collection.index.vectors(ids), strict=True))
        collection.conn.close()
        return found

    @cached_property
    def embedded(self) -> list[int]:
        """The rows that have a vector."""
        return [row for row, (_, picture, _) in self.rows.items() if picture in self.vectors]

    @cached_property
    def matrix(self) -> np.ndarray:
        """The vectors of ``embedded``, in its order."""
        return np.stack([self.vectors[self.rows[row][1]] for row in self.embedded])

    @cached_property
    def place(self) -> dict[int, int]:
        return {row: place for place, row in enumerate(self.embedded)}

    def wrong(
        self, row: int, matches: list[tuple[int, float]], k: int, known: set[int] | None = None
    ) -> str | None:
        """What is wrong with an answer (rows with scores) about ``row``, or None.

        Its rows, scores and order are looked at; with ``known`` also that none of these
        rows is left out that is nearer than one that is there. Scores may differ by 1e-4,
        as half-precision numbers and other batches make them.
        """
        if row not in self.place:
            return f"row {row} has no picture, but matches" if matches else None
        scores = self.matrix @ self.matrix[self.place[row]]
        for found, score in matches:
            if found not in self.place or found == row:
                return f"row {row} matches {found}"
            if abs(scores[self.place[found]] - score) > 1e-4:
                return f"rows {row} and {found}: {score}, not {scores[self.place[found]]}"
        said = [score for _, score in matches]
        rows = {found for found, _ in matches}
        if said != sorted(said, reverse=True) or len(rows) != len(said):
            return f"row {row}: the order of its matches is wrong"
        if known and row in known:
            least = said[-1] if len(said) == k else -2
            left_out = [self.place[r] for r in known - rows - {row} if r in self.place]
            if left_out and scores[left_out].max() > least + 1e-4:
                return f"row {row}: a nearer row than its {len(said)} matches is left out"
        return None


def open_collection(database: Path, name: str = TABLE):
    from datasette_image_search import catalog
    from datasette_image_search.collection import Collection

    return Collection.open(catalog.connect(database), name)


def differences(database: Path, truth: Truth) -> list[str]:
    """What is otherwise in ``database`` than in the truth."""
    found = Truth(database)
    wrong = [
        f"row {row}: {found.rows.get(row)}, not {truth.rows.get(row)}"
        for row in sorted(found.rows.keys() | truth.rows.keys())
        if _portable(found.rows.get(row)) != _portable(truth.rows.get(row))
    ]
    if found.vectors.keys() != truth.vectors.keys():
        wrong.append(f"{len(found.vectors)} vectors, not {len(truth.vectors)}")
    wrong += [
        f"the vector of picture {picture} is another"
        for picture in found.vectors.keys() & truth.vectors.keys()
        if np.abs(found.vectors[picture] - truth.vectors[picture]).max() > 1e-5
    ]
    return wrong


def _portable(row: tuple | None) -> tuple | None:
    """Without the folder that an error names."""
    return row and (*row[:2], row[2] and row[2].partition(" the folder ")[0])
