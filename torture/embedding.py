"""An embed that says how far it has come: a byte for each row, when it has been taken up.

    python -m torture.embedding shop.db '{"model": "mini", ...}'
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from datasette_image_search.collection import EmbedOptions, embed

from .shop import TABLE


class Told:
    def start(self, total: int) -> None:
        os.write(1, b"s")

    def advance(self, rows: int) -> None:
        os.write(1, b"." * rows)


if __name__ == "__main__":
    import torch  # noqa: F401  Loaded first, so that kills hit what comes after

    options = json.loads(sys.argv[2])
    if "root" in options:
        options["root"] = Path(options["root"])
    embed(Path(sys.argv[1]), TABLE, EmbedOptions(**options), progress=Told())
