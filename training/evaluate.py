"""The model card's figures: databases of the pictures, embedded and evaluated.

    python training/evaluate.py --pictures FOLDER [--model mini] [--weights FILE]

Each figure is what `datasette image-search evaluate` prints; the commands are shown, so
that any other model can be measured by them too.
"""

import argparse
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import sqlite_utils
from data import main_clothes, read_tables
from PIL import Image, ImageEnhance

GALLERY = 5000
ASKED = 250  # pictures changed, each in every way


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".cache")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--weights", help="other weights for the model")
    parser.add_argument(
        "--kinds", type=Path, help="a folder of folders: pictures of other kinds, measured too"
    )
    options = parser.parse_args()
    found = read_tables(options.pictures)
    work = options.work / f"card-{options.model}"
    work.mkdir(parents=True, exist_ok=True)
    database = work / "card.db"
    database.unlink(missing_ok=True)
    tables = sqlite_utils.Database(database)
    tables["photos"].insert_all(photos(found, options.pictures), pk="path")
    tables["copies"].insert_all(copies(found, work), pk="path")
    tables.close()

    model = ["--model", options.model]
    if options.weights:
        model += ["--weights", options.weights]
    for table, root in (("photos", options.pictures), ("copies", work)):
        command("embed", database, table, "--column", "path", "--root", root, *model)
    grocery = ("--queries", "kind like 'grocery/%' and part = 'validation'")
    clothing = ("--queries", "main = 1 and part = 'validation'")
    figures = {
        "grocery: validation photo → training photos": (
            *grocery,
            *("--gallery", "path like 'grocery/photos/%' and part = 'train'"),
        ),
        "grocery: validation photos among themselves": (*grocery, "--gallery", grocery[1]),
        "clothing: validation pictures of 10 kinds among themselves": (
            *clothing,
            *("--gallery", clothing[1]),
        ),
        "clothing: validation pictures of 10 kinds → training pictures of these": (
            *clothing,
            *("--gallery", "main = 1 and part = 'train'"),
        ),
    }
    results = {
        name: evaluate(database, "photos", "kind", arguments) for name, arguments in figures.items()
    }
    for change in changes(np.random.default_rng(0)):
        arguments = ("--queries", f"change = '{change}'", "--gallery", "change = ''")
        results[f"copy found among {GALLERY:,}, {change}"] = evaluate(
            database, "copies", "original", arguments
        )
    if options.kinds:
        command("load", database, "others", options.kinds)
        others = sqlite_utils.Database(database)["others"]
        others.add_column("kind", str)
        others.db.execute("update others set kind = substr(path, 1, instr(path, '/') - 1)")
        others.db.conn.commit()
        others.db.close()
        command("embed", database, "others", "--column", "path", *model)
        results["other kinds"] = evaluate(database, "others", "kind", ())
    print()
    for name, found in results.items():
        first = f"P@1 {found['p_at_1']:.3f} ± {found['p_at_1_error']:.3f}"
        ten = f"P@10 {found['p_at_10']:.3f}  mAP@10 {found['map_at_10']:.3f}"
        print(f"{first}  {ten}  {name} ({found['queries']} asked)")


def command(*words) -> str:
    """Run `datasette image-search …`, showing it; its output."""
    words = ["datasette", "image-search", *map(str, words)]
    print(f"$ {shlex.join(words)}", flush=True)
    started = [sys.executable, "-m", *words]
    return subprocess.run(started, check=True, stdout=subprocess.PIPE, text=True).stdout


def evaluate(database, table, label, arguments) -> dict:
    return json.loads(command("evaluate", database, table, "--label", label, *arguments, "--json"))


def photos(found, folder):
    """A row for each labelled picture; `main` marks the ten kinds of clothing counted."""
    counted = main_clothes(found)
    for file, kind, part in zip(found.files, found.kinds, found.parts, strict=True):
        if kind:
            path = str(file.relative_to(folder))
            yield {"path": path, "kind": kind, "part": part, "main": int(kind in counted)}


def copies(found, work):
    """Rows of 5,000 originals and of changed copies, all of them written into `work`."""
    rng = np.random.default_rng(0)
    for kind in ("originals", "copies"):
        (work / kind).mkdir(exist_ok=True)
    originals = found.rows("validation")
    others = rng.permutation(found.rows("train"))[: GALLERY - len(originals)]
    for row in [*originals, *others]:
        path = f"originals/{row:05}{found.files[row].suffix}"
        (work / path).write_bytes(found.files[row].read_bytes())
        yield {"path": path, "original": int(row), "change": ""}
    asked = rng.choice(originals, ASKED, replace=False)
    for name, change in changes(rng).items():
        for row in asked:
            with Image.open(found.files[row]) as picture:
                copy = change(picture.convert("RGB"))
            path = f"copies/{name.replace(' ', '-')}-{row:05}"
            if isinstance(copy, bytes):
                (work / path).write_bytes(copy)
            else:
                copy.save(work / path, "PNG", compress_level=1)
            yield {"path": path, "original": int(row), "change": name}


def changes(rng):
    """Ways to change a picture that leave it the same picture to an eye."""

    def crop(picture, share):
        """A window anywhere, `share` of each side."""
        width, height = (round(side * share) for side in picture.size)
        left = rng.integers(picture.width - width + 1)
        top = rng.integers(picture.height - height + 1)
        return picture.crop((left, top, left + width, top + height))

    def rotate(picture):
        turn = 10 if rng.random() < 0.5 else -10
        return picture.rotate(turn, Image.Resampling.BICUBIC)

    def recolour(picture):
        """Saturation, brightness and contrast by up to a half, hue by up to 15°."""
        for change in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
            picture = change(picture).enhance(rng.uniform(0.67, 1.5))
        hue, saturation, value = picture.convert("HSV").split()
        shift = int(rng.integers(-11, 12))
        hue = hue.point(lambda degrees: (degrees + shift) % 256)
        return Image.merge("HSV", (hue, saturation, value)).convert("RGB")

    def compress(picture):
        kept = io.BytesIO()
        picture.save(kept, "JPEG", quality=30)
        return kept.getvalue()

    return {
        "cropped to 60 % of the area": lambda picture: crop(picture, 0.6**0.5),
        "cropped to 60 % of each side": lambda picture: crop(picture, 0.6),
        "rotated by 10° with black corners": rotate,
        "recoloured": recolour,
        "re-compressed at quality 30": compress,
    }


if __name__ == "__main__":
    main()
