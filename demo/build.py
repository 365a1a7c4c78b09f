"""Build the demo shop: ``python -m demo.build FOLDER``.

Makes ``FOLDER/shop.db`` and ``FOLDER/pictures/``. Run again, it returns at
once; run again after an interruption, it draws only what is missing.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import sqlite_utils

from .shop import KINDS, Product, catalogue

STAMP = ".shop-build.json"
COLUMNS = (
    "id", "picture", "name", "kind", "brand", "category", "colour", "pattern", "material", "price",
    "description",
)  # fmt: skip


def version(limit: int | None = None) -> str:
    """A digest of this package's own source: change a shape, and it is redrawn."""
    digest = sha256(f"limit={limit}".encode())
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        digest.update(path.relative_to(here).as_posix().encode())
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def build(
    folder: str | os.PathLike,
    limit: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> bool:
    """Build the shop in a folder. False if there was nothing to do."""
    folder = Path(folder)
    products = catalogue(limit)
    pictures = {p.picture: p for p in reversed(products) if p.picture}
    stamp = _read_stamp(folder)
    wanted = version(limit)
    same = stamp.get("version") == wanted
    missing = [name for name in pictures if not (same and (folder / name).exists())]
    if same and stamp.get("done") and not missing and (folder / "shop.db").exists():
        report(f"{folder}: all {len(products)} products are there already.")
        return False

    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    if not same:
        # What lies here is from another version; from now on, pictures count.
        _remove_strangers(folder, pictures)
        _write_stamp(folder, {"version": wanted, "done": False})
    started = time.monotonic()
    for count, name in enumerate(sorted(missing, key=lambda n: pictures[n].id), 1):
        _write_whole(folder / name, jpeg(pictures[name]))
        if count % 20 == 0 or count == len(missing):
            report(f"{count} of {len(missing)} pictures, {time.monotonic() - started:.0f} s")
    if not (same and stamp.get("done") and (folder / "shop.db").exists()):
        _write_database(folder / "shop.db", products)
    _write_stamp(folder, {"version": wanted, "done": True})
    report(f"{folder / 'shop.db'}: {len(products)} products, {len(pictures)} pictures")
    return True


def jpeg(product: Product) -> bytes:
    file = io.BytesIO()
    product.photograph().save(file, "JPEG", quality=88, subsampling=0)
    return file.getvalue()


def _write_database(path: Path, products: list[Product]) -> None:
    """Write the tables next to the old database, then put them in its place."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    db = sqlite_utils.Database(draft)
    kind_ids = {kind.name: number for number, kind in enumerate(KINDS, 1)}
    db["kinds"].insert_all(
        [{"id": number, "name": name} for name, number in kind_ids.items()], pk="id"
    )
    rows = []
    for product in products:
        row = {column: getattr(product, column) for column in COLUMNS}
        rows.append({**row, "kind": kind_ids[product.kind]})
    types = {"id": int, "kind": int, "price": float}
    db["products"].create(
        {column: types.get(column, str) for column in COLUMNS},
        pk="id",
        foreign_keys=[("kind", "kinds", "id")],
        not_null={"name", "kind"},
    )
    db["products"].insert_all(rows)
    for column in ("kind", "brand"):
        db["products"].create_index([column])
    db["products"].enable_fts(["name", "description"], tokenize="porter", create_triggers=True)
    db.close()
    for left_over in ("-wal", "-shm", "-journal"):
        Path(f"{path}{left_over}").unlink(missing_ok=True)
    os.replace(draft, path)


def _write_whole(path: Path, data: bytes) -> None:
    """All or nothing, so that an interrupted build leaves no half pictures."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(data)
    os.replace(draft, path)


def _remove_strangers(folder: Path, pictures) -> None:
    """Drop pictures of an earlier version that this one does not have."""
    for path in (folder / "pictures").iterdir():
        if path.suffix in (".jpg", ".draft") and f"pictures/{path.name}" not in pictures:
            path.unlink()


def _read_stamp(folder: Path) -> dict:
    try:
        return json.loads((folder / STAMP).read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _write_stamp(folder: Path, stamp: dict) -> None:
    _write_whole(folder / STAMP, json.dumps(stamp).encode())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m demo.build", description="Build the demo shop."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, help="only the first so many products")
    options = parser.parse_args(arguments)
    build(options.folder, options.limit, report=lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    main()
