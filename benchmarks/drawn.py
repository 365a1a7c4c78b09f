"""Vectors shaped like a network's features, and a whole shop of them.

Not noise: 3,000 Gaussian clusters in 48 latent dimensions, through a random layer with
ReLU, scaled to length 1 (l2: lengths left as they are). Every row can be drawn again, so
that memory does not grow with their number.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

QUERIES = 10**9  # a seed that no row is drawn with
_BLOCK = 8192
_THUMBNAILS = 64  # different ones


class Drawn:
    """``drawn(rows)``: the vectors of rows 0, 1, …; ``drawn.more(count, seed)``: others."""

    def __init__(self, dimensions: int = 2048, metric: str = "cosine"):
        random = np.random.default_rng(0)
        self._centres = random.standard_normal((3000, 48), np.float32)
        self._layer = random.standard_normal((48, dimensions), np.float32) / np.float32(48**0.5)
        self._bias = 0.3 * random.standard_normal(dimensions, np.float32) - np.float32(0.3)
        self._metric = metric

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The vectors (n × d float32) of ``rows``, in ascending order."""
        edges = np.flatnonzero(np.diff(rows // _BLOCK)) + 1
        latent = [
            self._latent(_BLOCK, int(part[0]) // _BLOCK * _BLOCK)[part % _BLOCK]
            for part in np.split(rows, edges)
            if len(part)
        ]
        return self._vectors(np.concatenate([np.empty((0, 48), np.float32), *latent]))

    def more(self, count: int, seed: int) -> np.ndarray:
        return self._vectors(self._latent(count, QUERIES + seed))

    def _latent(self, count: int, seed: int) -> np.ndarray:
        random = np.random.default_rng([1, seed])
        latent = self._centres[random.integers(0, len(self._centres), count)]
        return latent + 0.5 * random.standard_normal(latent.shape, np.float32)

    def _vectors(self, latent: np.ndarray) -> np.ndarray:
        vectors = np.maximum(latent @ self._layer + self._bias, 0)
        if self._metric == "cosine":
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def ids_of(count: int) -> np.ndarray:
    """Spread as picture ids are; ascending, so that their order is the rows'."""
    return np.sort(np.random.default_rng(2).integers(0, 2**62, 2 * count, np.int64))[::2]


# -- a shop -----------------------------------------------------------------------------


def shop(database: Path, count: int, model: str = "resnet50", *, thumbnails: bool = True) -> None:
    """``count`` products, each with a picture of its own, as an embed would have left them.

    But for the network: vectors are drawn, and thumbnails are one of 64, 12 KB each. The
    collection's record names the weights of ``model``, which must be here. ``stock`` is from
    0 to 999, each as often as another: a filter on it keeps what share is wanted.
    """
    from datasette_image_search import catalog, models, pictures
    from datasette_image_search.collection.search import identity_of
    from datasette_image_search.vector_index import base_file, choose

    entry = models.get(model)
    weights = entry.find_weights()
    geometry = pictures.Geometry(entry.input_size)
    sqlite3.connect(database).close()
    database.touch()
    conn = catalog.connect(database, write=True)
    conn.execute("pragma synchronous = off")
    with catalog.transaction(conn):
        conn.execute(
            "create table products (id integer primary key, name text, category text, "
            "brand text, colour text, price real, stock integer, added text, "
            "description text, picture text)"
        )
        conn.executemany(f"insert into products values ({', '.join('?' * 10)})", _products(count))
    catalog.prepare(conn)
    ids = np.random.default_rng(4).permutation(ids_of(count))
    shown = _drawn_thumbnails(_THUMBNAILS) if thumbnails else [None]
    with catalog.transaction(conn):
        record = catalog.CollectionRecord(
            id=0,
            name="products",
            table_name="products",
            column_name="picture",
            key_columns=("id",),
            root="pictures",
            model=model,
            weights=weights.sha256,
            weights_name=weights.name,
            resize=geometry.resize,
            preprocessing=str(geometry),
            dimensions=entry.dimensions,
            metric="cosine",
            index_kind="auto",
            sidecar=catalog.free_sidecar_name(conn, database, "products"),
            finished="2026-01-01T00:00:00+00:00",
        )
        record = catalog.insert(conn, record, catalog.Table.read(conn, "products"))
        rows = catalog.RowsWriter(conn, record)
        for start in range(0, count, 1000):
            part = range(start, min(start + 1000, count))
            rows.record(
                [
                    catalog.Outcome((row + 1,), f"{row}.jpg", f"{row}", int(ids[row]))
                    for row in part
                ],
                [
                    catalog.Picture(int(ids[row]), f"{row:064x}", 400, 350, shown[row % len(shown)])
                    for row in part
                ],
            )
    path, identity = record.sidecar_path(conn), identity_of(record)
    conn.close()
    kind = choose("auto", count, entry.dimensions)
    base_file.write(path, ids, Drawn(entry.dimensions), kind, identity)


def _products(count: int) -> Iterator[tuple]:
    random = np.random.default_rng(5)
    kinds = ("bag", "bowl", "chair", "coat", "cup", "dress", "hat", "lamp", "shoe", "vase")
    colours = ("black", "blue", "brown", "green", "grey", "red", "white", "yellow")
    words = ("cotton", "hand", "made", "leather", "oak", "small", "soft", "striped", "warm", "wool")
    for row in range(count):
        kind, colour, brand, *said = random.integers(0, 1000, 15).tolist()
        kind, colour = kinds[kind % len(kinds)], colours[colour % len(colours)]
        brand = f"Brand {brand % 40}"
        yield (
            row + 1,
            f"{brand} {colour} {kind}",
            kind,
            brand,
            colour,
            round(float(random.gamma(2, 20)), 2),
            row % 1000,
            f"2025-{1 + said[0] % 12:02}-{1 + said[1] % 28:02}",
            " ".join(words[word % len(words)] for word in said),
            f"{row}.jpg",
        )


def _drawn_thumbnails(count: int) -> list[bytes]:
    from datasette_image_search import pictures

    from .embedding import drawn_pictures

    with tempfile.TemporaryDirectory() as folder:
        drawn_pictures(Path(folder, "pictures"), count)
        files = sorted(Path(folder, "pictures").iterdir())
        geometry = pictures.Geometry(64)
        return [pictures.prepare(file.read_bytes(), geometry).thumbnail for file in files]
