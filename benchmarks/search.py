"""The compressed index beside the exact one, on the same vectors, in one run.

    python -m benchmarks.search [--vectors 100000] [--dimensions 2048] [--metric cosine]
                                [--queries 100] [--runs 3]

Vectors are shaped like the features of a network, not like noise: 3,000 Gaussian clusters
in 48 latent dimensions, through a random layer with ReLU, scaled to length 1 (l2: lengths
left as they are). Queries are further draws. They are made and written in pieces, so that
memory does not grow with their number; the disk holds about 12 KB for each at 2048 wide.

Every figure is of the public verbs, in a process of its own: what FAISS, the reading of
the vectors and the ranking take together. Recall is of the true ten nearest, computed
with a plain product. A filter is an array of ids in ascending order, given to every search.
Each query is asked once before it is measured, as of a server that has been running;
"asked the first time" is what it took then, with pages of the file still to be fetched.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from .drawn import Drawn, ids_of

K = 10
SHARES = (0.5, 0.05, 0.001)
IDENTITY = {"model": "drawn", "weights": "none", "preprocessing": "none"}


def identity_for(arguments):
    from datasette_image_search.vector_index import Identity

    return Identity(**IDENTITY, dimensions=arguments.dimensions, metric=arguments.metric)


def draw(arguments, path: Path) -> np.ndarray:
    """Write the exact sidecar; the similarities of the queries to all (q × n float32)."""
    from datasette_image_search.vector_index import base_file

    drawn = Drawn(arguments.dimensions, arguments.metric)
    queries = drawn.more(arguments.queries, 0)
    near = np.empty((len(queries), arguments.vectors), np.float32)

    def read(rows: np.ndarray) -> np.ndarray:
        vectors = drawn(rows)
        near[:, rows] = queries @ vectors.T
        if arguments.metric == "l2":
            near[:, rows] -= 0.5 * np.einsum("ij,ij->i", vectors, vectors)
        return vectors

    base_file.write(path, ids_of(arguments.vectors), read, "exact", identity_for(arguments))
    return near


# -- each in a process of its own -------------------------------------------------------


def build(arguments, path: Path) -> dict:
    """What `datasette image-search index --index ivf` does."""
    import resource

    from datasette_image_search.vector_index import SidecarWriter

    began = time.perf_counter()
    with SidecarWriter(path, identity_for(arguments), "ivf") as index:
        index.save()
    taken = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": taken, "peak": peak, "bytes": path.stat().st_size}


def serve(arguments, path: Path, filters: list) -> dict:
    """Open, then ask one query at a time, unfiltered and filtered."""
    from datasette_image_search.vector_index import Sidecar

    queries = Drawn(arguments.dimensions, arguments.metric).more(arguments.queries, 0)
    before = resident()
    began = time.perf_counter()
    index = Sidecar(path, identity_for(arguments))
    opened = time.perf_counter() - began
    asked = queries if index.kind != "exact" else queries[: max(5, len(queries) // 10)]
    first = []
    for query in asked:
        began = time.perf_counter()
        index.search(query[None], K)
        first.append(time.perf_counter() - began)
    found, times = [], []
    for allowed in filters:
        answers, taken = [], []
        for query in asked:
            began = time.perf_counter()
            answers.append(index.search(query[None], K, allowed)[0].ids)
            taken.append(time.perf_counter() - began)
        found.append(answers)
        times.append(statistics.median(taken))
    began = time.perf_counter()
    index.search(asked, K)
    batch = (time.perf_counter() - began) / len(asked)
    return {
        "opened": opened,
        "first": statistics.median(first),
        "found": found,
        "times": times,
        "batch": batch,
        "resident": resident() - before,
    }


def grow(arguments, path: Path) -> dict:
    """Add 100, as an embed does, then a thousand, and search with the journal there."""
    from datasette_image_search.vector_index import Sidecar, SidecarWriter

    drawn = Drawn(arguments.dimensions, arguments.metric)
    batches = []
    began = time.perf_counter()
    with SidecarWriter(path, identity_for(arguments)) as index:
        for start in range(0, 100, 20):
            at = time.perf_counter()
            index.add(np.arange(-100 + start, -80 + start), drawn.more(20, 1 + start))
            batches.append(time.perf_counter() - at)
        index.finish()
    taken = time.perf_counter() - began
    with SidecarWriter(path, identity_for(arguments)) as index:
        index.add(np.arange(-1000, -100), drawn.more(900, 200))
    reader = Sidecar(path, identity_for(arguments))
    asked = []
    for query in drawn.more(arguments.queries, 0):
        began = time.perf_counter()
        reader.search(query[None], K)
        asked.append(time.perf_counter() - began)
    return {
        "hundred": taken,
        "checkpoint": statistics.median(batches),
        "asked": statistics.median(asked),
    }


def resident() -> float:
    """Resident memory of this process in GB (Linux; 0 elsewhere)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def apart(function, *arguments):
    """Run in a fresh process, so that its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


# -- the table --------------------------------------------------------------------------


def recall(near: np.ndarray, ids: np.ndarray, found: list, allowed) -> float:
    """The share of the true ten nearest that were found; all ten must be there."""
    places = np.arange(len(ids)) if allowed is None else np.searchsorted(ids, allowed)
    shares = []
    for row, answer in zip(near, found):
        true = ids[places[np.argpartition(-row[places], K)[:K]]]
        assert len(answer) == K, f"{len(answer)} matches of {K}"
        shares.append(np.isin(answer, true).mean())
    return float(np.mean(shares))


def median_of(runs: list[dict], *path) -> float:
    values = runs
    for name in path:
        values = [value[name] for value in values]
    return statistics.median(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--metric", choices=["cosine", "l2"], default="cosine")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    random = np.random.default_rng(3)
    ids = ids_of(arguments.vectors)
    filters = [None]
    for share in SHARES:
        kept = max(2 * K, int(share * len(ids)))
        filters.append(np.sort(random.choice(ids, kept, replace=False)))
    with tempfile.TemporaryDirectory() as folder:
        exact, compressed = Path(folder, "exact.faiss"), Path(folder, "ivf.faiss")
        near = draw(arguments, exact)
        os.link(exact, compressed)
        built = apart(build, arguments, compressed)
        runs = [
            (
                apart(serve, arguments, exact, filters[:1]),
                apart(serve, arguments, compressed, filters),
            )
            for _ in range(arguments.runs)
        ]
        size = exact.stat().st_size
        grown = apart(grow, arguments, compressed)
    plain, quick = zip(*runs)
    slow, fast = median_of(plain, "times", 0), median_of(quick, "times", 0)
    print(
        f"{arguments.vectors:,} × {arguments.dimensions}, {arguments.metric}: "
        f"medians of {arguments.runs} runs of {arguments.queries} queries, k = {K}\n"
    )
    print(f"{'':28}{'p50, ms':>10}{'recall':>9}{'open, s':>9}{'GB in use':>11}{'GB file':>9}")
    print(
        f"{'exact':28}{1e3 * slow:10.2f}{recall(near, ids, plain[0]['found'][0], None):9.4f}"
        f"{median_of(plain, 'opened'):9.3f}{median_of(plain, 'resident'):11.2f}{size / 1e9:9.2f}"
    )
    for number, allowed in enumerate(filters):
        name = "ivf" if allowed is None else f"ivf, {len(allowed) / len(ids):.1%} allowed"
        taken = median_of(quick, "times", number)
        found = recall(near, ids, quick[0]["found"][number], allowed)
        line = f"{name:28}{1e3 * taken:10.2f}{found:9.4f}"
        if allowed is None:
            line += f"{median_of(quick, 'opened'):9.3f}{median_of(quick, 'resident'):11.2f}"
            line += f"{built['bytes'] / 1e9:9.2f}"
        print(line)
    print(f"{'ivf, asked the first time':28}{1e3 * median_of(quick, 'first'):10.2f}")
    print(f"{'ivf, all queries at once':28}{1e3 * median_of(quick, 'batch'):10.2f}")
    print(f"{'ivf, 1,000 in the journal':28}{1e3 * grown['asked']:10.2f}")
    print(f"\n{slow / fast:.0f}× faster than exact")
    print(f"built from exact in {built['seconds']:.0f} s, at most {built['peak']:.2f} GB in use")
    print(
        f"100 more in {grown['hundred']:.2f} s, of which a checkpoint of 20 takes "
        f"{1e3 * grown['checkpoint']:.1f} ms"
    )


if __name__ == "__main__":
    main()
