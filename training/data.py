"""The pictures, their labels, and which of them are trained on.

Two sets, each a folder with a `photos.csv`: `grocery` (product_id, split) and
`clothing` (label, sender). All are decoded once, squashed to a square and kept in
one file of bytes, which is mapped into memory.
"""

import csv
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# Labels that say nothing of the picture: such pictures are learned from without one.
NO_KIND = {"Not sure", "Other", "Skip"}
CLOTHING_VALIDATION = 0.3  # of the senders with few pictures (see `held_back`)
LARGE_SENDER = 100
MAIN_CLOTHES = 10
CACHE_SIZE = 192  # pictures are kept at this side, and views cropped from it


@dataclass
class Pictures:
    """Rows of a table, one per picture."""

    files: list  # paths
    kinds: list  # "grocery/12", "clothing/Shirt", or "" for none
    parts: list  # "train" or "validation" ("left out": see `leave_out`)

    def rows(self, part=None, prefix=""):
        return np.array(
            [
                row
                for row, (kind, its) in enumerate(zip(self.kinds, self.parts, strict=True))
                if (part is None or its == part) and kind.startswith(prefix)
            ],
            dtype=np.int64,
        )

    def labels(self):
        """Names of the kinds trained on, and each row's index among them (-1: none)."""
        names = sorted(
            {k for k, p in zip(self.kinds, self.parts, strict=True) if k and p == "train"}
        )
        index = {name: number for number, name in enumerate(names)}
        return names, np.array([index.get(k, -1) for k in self.kinds], dtype=np.int64)


def read_tables(folder):
    folder = Path(folder)
    found = Pictures([], [], [])

    def add(file, kind, part):
        found.files.append(file)
        found.kinds.append(kind)
        found.parts.append(part)

    for row in table(folder / "grocery" / "photos.csv"):
        part = "train" if row["split"] == "train" else "validation"
        add(folder / "grocery" / row["image"], f"grocery/{row['product_id']}", part)
    # The shop's own pictures of the products: one more of each.
    for row in table(folder / "grocery" / "products.csv"):
        add(folder / "grocery" / row["image"], f"grocery/{row['id']}", "train")

    clothing = table(folder / "clothing" / "photos.csv")
    sizes = Counter(row["sender"] for row in clothing)
    for row in clothing:
        kind = "" if row["label"] in NO_KIND else f"clothing/{row['label']}"
        sender = row["sender"]
        part = "validation" if held_back(sender, sizes[sender]) else "train"
        add(folder / "clothing" / row["image"], kind, part)
    return found


def main_clothes(pictures):
    """The ten kinds of clothing that are measured: those with the most pictures."""
    counts = Counter(kind for kind in pictures.kinds if kind.startswith("clothing/"))
    return {kind for kind, _ in counts.most_common(MAIN_CLOTHES)}


def held_back(sender, size):
    """Whether a sender's clothes are for validation, decided by a hash of the name.

    A sender's pictures share a room and a camera, so they stay together. The few
    senders with very many are always trained on: one of them would be half of the
    validation.
    """
    if size > LARGE_SENDER:
        return False
    digest = hashlib.sha256(f"mini {sender}".encode()).digest()
    return digest[0] / 256 < CLOTHING_VALIDATION


def leave_out(pictures, count):
    """Give `count` of the main clothes' training pictures, drawn by a fixed seed, the part
    "left out": how well is a picture found that comes from a sender who was trained on?"""
    main = main_clothes(pictures)
    rows = [row for row in pictures.rows("train", "clothing/") if pictures.kinds[row] in main]
    for row in np.random.default_rng(0).choice(rows, count, replace=False):
        pictures.parts[row] = "left out"


def table(file):
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def square(file, size):
    """A picture as the plugin shows it to the network: size×size×3 bytes."""
    with Image.open(file) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        return np.asarray(upright.resize((size, size), Image.Resampling.BILINEAR))


def cached(files, size, work):
    """All pictures at one size, N×size×size×3 bytes, decoded once."""
    work.mkdir(parents=True, exist_ok=True)
    names = [f"{file.parent.parent.name}/{file.parent.name}/{file.name}" for file in files]
    mark = hashlib.sha256(json.dumps([size, names]).encode()).hexdigest()[:12]
    whole = work / f"pictures-{size}-{mark}.npy"
    if not whole.exists():
        part = whole.with_suffix(".part")
        shape = (len(files), size, size, 3)
        pixels = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        for row, file in enumerate(files):
            pixels[row] = square(file, size)
            if row % 500 == 0:
                print(f"decoding at {size} px: {row} of {len(files)}", flush=True)
        pixels.flush()
        del pixels
        part.rename(whole)
    return np.load(whole, mmap_mode="r")
