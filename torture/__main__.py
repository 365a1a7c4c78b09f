"""The command: runs checks, prints a table, exit code 1 where one of them failed."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from . import __doc__ as description
from .figures import Figure
from .processes import datasette_version

CHECKS = {
    "kills": "embed killed at random moments, a server asked all along",
    "writers": "two embeds at once; embeds under 32 visitors",
    "load": "pages, JSON, SQL, thumbnails and uploads from 32 visitors",
    "damage": "sidecars missing, cut, flipped, of another table, model and version",
    "disks": "full and closed disks, locked databases, sources that go or misbehave",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        "torture", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=", ".join(CHECKS))
    parser.add_argument("--size", type=float, default=1.0, help="1: as many as are documented")
    arguments = parser.parse_args()
    for name in arguments.checks:
        if name not in CHECKS:
            parser.error(f"there is no check {name!r}; there are {', '.join(CHECKS)}")
    # One thread for each network: two of them share the cores with a server.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    good, tables = True, []
    for name in arguments.checks or CHECKS:
        figures, seconds = _run(name, arguments.size)
        good &= all(figure.good is not False for figure in figures)
        title = f"{CHECKS[name]} (`python -m torture {name}`, {seconds:.0f} s)"
        tables.append("\n".join([f"\n| {title} | | |", "|---|---|---|", *map(str, figures)]))
        print(tables[-1], flush=True)
    print(
        f"\nDatasette {datasette_version()}, Python {sys.version.split()[0]}: "
        f"{'all passed' if good else 'FAILED'}."
    )
    return 0 if good else 1


def _run(name: str, size: float) -> tuple[list[Figure], float]:
    check = getattr(importlib.import_module(f".{name}", __package__), name)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"torture-{name}-") as folder:
        try:
            figures = check(Path(folder), size)
        except Exception:
            traceback.print_exc()
            figures = [Figure("came to its end", "no: see above", False)]
    return figures, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
