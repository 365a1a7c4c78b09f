"""What the plugin adds to starting Datasette: medians of pairs, with it and without it.

    python -m benchmarks.startup [--runs 15]

Each run is a fresh process that makes a Datasette with one database file, runs its
startup hooks and asks it for its home page.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

START = """
import asyncio, sys, time
if sys.argv[2] == "without":
    sys._called_from_test = True  # Datasette loads no installed plugins then
began = time.perf_counter()
from datasette.app import Datasette

async def main():
    datasette = Datasette([sys.argv[1]])
    await datasette.invoke_startup()
    assert (await datasette.client.get("/")).status_code == 200
    loaded = {plugin["name"] for plugin in datasette._plugins()}
    assert ("datasette-image-search" in loaded) == (sys.argv[2] == "with"), loaded

asyncio.run(main())
print(time.perf_counter() - began)
"""


def start(database: Path, plugin: bool) -> float:
    command = [sys.executable, "-c", START, str(database), "with" if plugin else "without"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    import datasette
    import sqlite_utils

    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "shop.db")
        sqlite_utils.Database(database)["products"].insert({"id": 1})
        start(database, True), start(database, False)
        pairs = [(start(database, False), start(database, True)) for _ in range(runs)]
    without = statistics.median(pair[0] for pair in pairs)
    added = statistics.median(pair[1] - pair[0] for pair in pairs)
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    print(f"Datasette {datasette.__version__}, medians of {runs} pairs")
    print(f"  without the plugin  {1000 * without:6.0f} ms")
    print(f"  the plugin adds     {1000 * added:6.0f} ms   ({ratio:.3f} ×)")


if __name__ == "__main__":
    main()
