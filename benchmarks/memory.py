"""How much memory an embed takes, its decoders included, and that it does not grow.

    python -m benchmarks.memory [--model resnet50] [--counts 200 2000]

Each count is embedded by `datasette image-search embed` in a process of its own; its peak
(VmHWM) and those of its decoders are added, as if all had come at once. Pictures are
drawn as in `benchmarks.embedding`, the last tenth of them photos of 12 megapixels. Linux.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .decoding import drawn, encoded
from .embedding import drawn_pictures, seed_weights_if_missing


def peak_of(pid: int) -> int:
    """The most resident memory a process has had, in bytes; 0 where it has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def children_of(pid: int) -> list[int]:
    """Those that run a program of their own: just before that, a new one is its parent's copy."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return [child for child in found if command_of(child) not in ("", command_of(pid))]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def embed_and_watch(database: Path, model: str) -> tuple[float, float, int]:
    """Peak bytes of the command and of its decoders, and how many decoders there were."""
    command = [sys.executable, "-m", "datasette", "image-search", "embed"]
    process = subprocess.Popen([*command, str(database), "pictures", "--model", model])
    own, others = 0, {}
    while process.poll() is None:
        own = max(own, peak_of(process.pid))
        for child in children_of(process.pid):
            others[child] = max(others.get(child, 0), peak_of(child))
        time.sleep(0.05)
    assert process.returncode == 0
    return own, sum(others.values()), len(others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--counts", type=int, nargs="+", default=[200, 2000])
    arguments = parser.parse_args()
    from datasette_image_search.collection import load

    seed_weights_if_missing()
    with tempfile.TemporaryDirectory() as work:
        for count in arguments.counts:
            folder = Path(work, f"pictures-{count}")
            drawn_pictures(folder, count - count // 10)
            large = encoded(drawn(0), 88)
            for number in range(count // 10):
                # What follows a JPEG's end is not decoded: each is a picture of its own.
                (folder / f"large-{number:05}.jpg").write_bytes(large + number.to_bytes(4, "big"))
            database = Path(work, f"{count}.db")
            load(database, "pictures", folder)
            own, others, decoders = embed_and_watch(database, arguments.model)
            print(
                f"{count:,} pictures, {arguments.model}: {(own + others) / 1e9:.2f} GB "
                f"({own / 1e9:.2f} and {decoders} decoders with {others / 1e9:.2f})"
            )


if __name__ == "__main__":
    main()
