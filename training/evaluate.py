"""Figures of the weights that ship: validation, changed copies, speed.

`python training/evaluate.py --pictures FOLDER`, then the same with `--speed`.
"""

import argparse
import io
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data import cached, read_tables, square
from measure import normalised, unit, validation_figures, vectors

from datasette_image_search.models import mini

GALLERY = 5000
ASKED = 250  # pictures changed, each in every way


def main():
    parser = argparse.ArgumentParser(description="Figures of the stored weights.")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".cache")
    parser.add_argument("--weights", type=Path, default=mini.WEIGHTS_FILE)
    parser.add_argument("--speed", action="store_true", help="measure speed only")
    options = parser.parse_args()
    network = stored(options.weights)
    pictures = read_tables(options.pictures)
    if options.speed:
        return speed(network, pictures)
    pixels = cached(pictures.files, mini.INPUT_SIZE, options.work)
    found = validation_figures(lambda rows: vectors(network, pixels, rows), pictures)
    for name, value in found.items():
        print(f"validation P@1, {name}: {value:.3f}")
    for name, value in copies_found(network, pictures, pixels).items():
        print(f"first among {GALLERY}, {name}: {value:.3f}")


def stored(file):
    """The network with the weights of a file."""
    network = mini.build_network()
    weights = torch.load(file, weights_only=True)
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    return network.to(memory_format=torch.channels_last).eval()


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
        return Image.open(kept)

    return {
        "cropped to 60 % of the area": lambda picture: crop(picture, 0.6**0.5),
        "cropped to 60 % of each side": lambda picture: crop(picture, 0.6),
        "rotated by 10°, black corners": rotate,
        "recoloured": recolour,
        "re-compressed at quality 30": compress,
    }


def copies_found(network, pictures, pixels):
    """Share of changed validation pictures whose original is found first."""
    rng = np.random.default_rng(0)
    originals = pictures.rows("validation")
    others = rng.permutation(pictures.rows("train"))[: GALLERY - len(originals)]
    gallery = np.concatenate([originals, others])
    index = unit(vectors(network, pixels, gallery))
    asked = rng.choice(len(originals), ASKED, replace=False)
    found = {}
    for name, change in changes(rng).items():
        changed = []
        for place in asked:
            with Image.open(pictures.files[originals[place]]) as picture:
                copy = change(picture.convert("RGB"))
            small = copy.resize((mini.INPUT_SIZE,) * 2, Image.Resampling.BILINEAR)
            changed.append(np.asarray(small))
        queries = unit(vectors(network, np.stack(changed), np.arange(ASKED)))
        found[name] = float(((queries @ index.T).argmax(1) == asked).mean())
    return found


def speed(network, pictures, count=512, batch=64):
    """From JPEG files to vectors on this CPU, beside ResNet-50 with random weights."""
    from torchvision.models import resnet50

    large = resnet50().to(memory_format=torch.channels_last).eval()
    files = pictures.files[::5][:count]
    for round_number in range(2):  # the first warms up
        for name, model, size in (("mini", network, mini.INPUT_SIZE), ("resnet50", large, 224)):
            some = files if name == "mini" else files[: count // 4]
            rate = pictures_per_second(model, some, size, batch)
            if round_number:
                print(f"{name}: {rate:.0f} pictures/s from JPEG files")


@torch.inference_mode()
def pictures_per_second(model, files, size, batch):
    started = time.monotonic()
    with ThreadPoolExecutor() as pool, torch.autocast("cpu", torch.bfloat16):
        decoded = pool.map(lambda file: square(file, size), files)
        for _ in range(0, len(files), batch):
            some = [picture for _, picture in zip(range(batch), decoded, strict=False)]
            model(normalised(np.stack(some)).contiguous(memory_format=torch.channels_last))
    return len(files) / (time.monotonic() - started)


if __name__ == "__main__":
    main()
