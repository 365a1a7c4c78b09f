"""Pictures drawn here, a shop with a real embedding, and weights from a fixed seed."""

from __future__ import annotations

import contextlib
import html
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 160, 70),
    "blue": (50, 80, 200),
    "yellow": (230, 200, 50),
    "black": (30, 30, 30),
    "pink": (240, 150, 190),
}
SHAPES = ("disc", "box", "stripes", "cross")


def draw(shape: str, colour: str, size: tuple[int, int] = (240, 200)) -> Image.Image:
    """A shape of one colour on a pale ground: what the tests mean by a product picture."""
    width, height = size
    picture = Image.new("RGB", size, (240, 238, 232))
    pen = ImageDraw.Draw(picture)
    box = (width // 5, height // 5, width * 4 // 5, height * 4 // 5)
    paint = COLOURS[colour]
    if shape == "disc":
        pen.ellipse(box, fill=paint)
    elif shape == "box":
        pen.rectangle(box, fill=paint)
    elif shape == "stripes":
        for x in range(box[0], box[2], 16):
            pen.rectangle((x, box[1], x + 7, box[3]), fill=paint)
    else:
        pen.rectangle((box[0], height * 2 // 5, box[2], height * 3 // 5), fill=paint)
        pen.rectangle((width * 2 // 5, box[1], width * 3 // 5, box[3]), fill=paint)
    return picture


def seeded_weights(name: str, home: Path) -> Path:
    """torchvision's ``name`` with weights from seed 0, under their official file name."""
    import torch
    import torchvision

    weights = torchvision.models.get_model_weights(name)
    entry = next(iter(weights))
    path = home / "hub" / "checkpoints" / entry.url.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        torch.manual_seed(0)
        torch.save(torchvision.models.get_model(name, weights=None).state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def environment_of_before():
    """`embed`, run in this process, tells OpenMP what servers started later are not to hear."""
    name = "OMP_WAIT_POLICY"
    before = os.environ.get(name)
    yield
    if before is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = before


@pytest.fixture(scope="session")
def torch_home(tmp_path_factory):
    """torch's cache with resnet18 from a fixed seed: the real loading code runs on it."""
    home = tmp_path_factory.mktemp("torch")
    before = os.environ.get("TORCH_HOME")
    os.environ["TORCH_HOME"] = str(home)
    seeded_weights("resnet18", home)
    yield home
    if before is None:
        del os.environ["TORCH_HOME"]
    else:
        os.environ["TORCH_HOME"] = before


def hrefs(text: str) -> list[str]:
    """Where the links of a page lead."""
    return [html.unescape(href) for href in re.findall(r'href="([^"]*)"', text)]


def build_shop(folder: Path) -> Path:
    """``folder/shop.db``: table products (id, name, category, price, picture), 24 rows."""
    import sqlite_utils

    (folder / "pictures").mkdir(parents=True)
    rows = []
    for shape in SHAPES:
        for colour in COLOURS:
            name = f"{colour}-{shape}"
            draw(shape, colour).save(folder / "pictures" / f"{name}.png")
            rows.append(
                {
                    "id": len(rows) + 1,
                    "name": name.replace("-", " "),
                    "category": shape,
                    "price": 5 + 7 * len(rows) % 90,
                    "picture": f"pictures/{name}.png",
                }
            )
    sqlite_utils.Database(folder / "shop.db")["products"].insert_all(rows, pk="id")
    return folder


@pytest.fixture(scope="session")
def shop(torch_home, tmp_path_factory):
    """A folder with shop.db, its pictures, and its sidecar. Not to be changed."""
    from datasette_image_search.collection import EmbedOptions, embed

    folder = build_shop(tmp_path_factory.mktemp("shops") / "shop")
    embed(folder / "shop.db", "products", EmbedOptions(model="resnet18"))
    return folder


@pytest.fixture
def shop_copy(shop, tmp_path):
    """The shop again, to be changed at will."""
    return Path(shutil.copytree(shop, tmp_path / "shop"))


def kill_in_mid_commit(database: Path) -> None:
    """Let a writer die in a transaction that is half on disk: a hot journal is left."""
    code = f"""
import os, sqlite3
conn = sqlite3.connect({str(database)!r}, isolation_level=None)
conn.execute("pragma cache_size = 1")
conn.execute("pragma cache_spill = 1")
conn.execute("begin immediate")
conn.execute("update image_search_pictures set thumbnail = randomblob(20000)")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code])
    assert Path(f"{database}-journal").stat().st_size, "the kill came too late"


@contextlib.contextmanager
def served(database: Path, *arguments: str):
    """``datasette serve`` in a process of its own; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "datasette", str(database), "-p", str(port), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(address, timeout=5)
                break
            except OSError:
                assert process.poll() is None, "the server did not start"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def cosines(one, other):
    """Row by row, of two N×D."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / lengths
