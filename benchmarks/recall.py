"""What the compressed index misses among vectors of real pictures.

    python -m benchmarks.recall --pictures FOLDER [--queries 500]

Every JPEG below FOLDER is embedded with `mini`, which needs no download. Of all of them, and of
parts drawn at random, an exact and a compressed sidecar are written: the share of the true ten
nearest that the compressed one finds (a picture's own vector, which both find, left out), and what
a query takes in each.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

K = 10
BATCH = 64


def vectors_of(files: list[Path]) -> np.ndarray:
    from datasette_image_search import models, pictures

    model = models.get("mini")
    network = model.load(model.find_weights(None))
    geometry = pictures.Geometry(model.input_size)

    def pixels(file: Path) -> np.ndarray:
        return pictures.prepare(file.read_bytes(), geometry, thumbnail=False).pixels

    found = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), BATCH):
            found.append(network.embed(np.stack([*pool.map(pixels, files[start : start + BATCH])])))
    return np.concatenate(found)


def asked(path: Path, kind: str, vectors: np.ndarray, queries: np.ndarray) -> tuple[list, float]:
    """The ids found for each query, and the median of seconds."""
    from datasette_image_search.vector_index import Identity, Sidecar, SidecarWriter

    identity = Identity("mini", "none", "none", vectors.shape[1], "cosine")
    with SidecarWriter(path, identity, kind) as index:
        index.add(np.arange(len(vectors)), vectors)
        index.save()
    reader, found, times = Sidecar(path, identity), [], []
    for query in queries.tolist():
        began = time.perf_counter()
        ids = reader.search(vectors[query][None], K + 1)[0].ids.tolist()
        times.append(time.perf_counter() - began)
        found.append({id for id in ids if id != query})
    return found, statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=500)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    every = vectors_of(sorted(arguments.pictures.rglob("*.jp*g")))
    print(f"{'vectors':>9}{'recall@10':>12}{'exact, ms':>12}{'ivf, ms':>10}")
    for count in (len(every) // 4, len(every) // 2, len(every)):
        vectors = every[random.choice(len(every), count, replace=False)]
        queries = random.choice(count, min(count, arguments.queries), replace=False)
        with tempfile.TemporaryDirectory() as folder:
            true, slow = asked(Path(folder, "exact.faiss"), "exact", vectors, queries)
            found, fast = asked(Path(folder, "ivf.faiss"), "ivf", vectors, queries)
        share = statistics.mean(len(one & other) / len(one) for one, other in zip(true, found))
        print(f"{count:9,}{share:12.4f}{1e3 * slow:12.2f}{1e3 * fast:10.2f}", flush=True)


if __name__ == "__main__":
    main()
