"""Large photos: what decoding at a reduced size saves, and what it changes.

    python -m benchmarks.decoding [--pictures FOLDER] [--count 6] [--runs 5]

JPEGs of 4000×3000 (4:2:0, quality 85 and 92) with a photo's detail at every scale and a
sensor's noise; with --pictures, these enlarged to that size (and noise added) besides.

"plain" is decode, convert and Resize((224, 224)), then (with a thumbnail) Pillow's own
``thumbnail((256, 256))`` and a JPEG of it; "ours" is what an embed does of the same. Both
run here, in one thread: times are of its processor, so that other work hardly counts.

"entropy decoding" is the same JPEG decoded to 1/8 in grey: its Huffman codes must all be
read, one after the other, and hardly anything else is done. No scaling takes less.

The cosines compare each network's vectors of both decodes (fp32): `mini` with its own
weights, `resnet50` with those of torch's cache, or from a fixed seed where there are none.
With --pictures, `mini` also sees them as they are, sharp to the pixel, at a side that their
half hardly exceeds: it is then at its worst.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from .embedding import seed_weights_if_missing

SIZE = (4000, 3000)
QUALITIES = (85, 92)
SIDES = (4000, 2400, 1600, 1200, 1000, 800, 640, 600, 450)  # how wide, where cosines are measured


def drawn(seed: int) -> Image.Image:
    """Random detail at every scale, each half as strong as the one before, and noise."""
    random = np.random.default_rng(seed)
    width, height = SIZE
    whole = np.full((height, width, 3), 128, np.float32)
    for wide, strength in ((20, 60), (80, 30), (320, 15), (1280, 8)):
        coarse = random.normal(0, strength, (wide * 3 // 4, wide, 3)).astype(np.float32)
        for channel in range(3):
            part = Image.fromarray(coarse[..., channel]).resize(SIZE, Image.Resampling.BICUBIC)
            whole[..., channel] += np.asarray(part)
    return with_noise(whole, random)


def with_noise(pixels: np.ndarray, random) -> Image.Image:
    noise = random.normal(0, 3, (*pixels.shape[:2], 1)).astype(np.float32)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def enlarged(path: Path, seed: int) -> Image.Image:
    with Image.open(path) as picture:
        large = picture.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
    return with_noise(np.asarray(large, np.float32), np.random.default_rng(seed))


def encoded(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


# -- what is timed ----------------------------------------------------------------------


def plain(data: bytes) -> None:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    np.asarray(picture.resize((224, 224), Image.Resampling.BILINEAR))


def plain_with_thumbnail(data: bytes) -> None:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    np.asarray(picture.resize((224, 224), Image.Resampling.BILINEAR))
    picture.thumbnail((256, 256))
    picture.save(io.BytesIO(), "JPEG", quality=80)


def ours(data: bytes) -> None:
    from datasette_image_search import pictures

    pictures.prepare(data, pictures.Geometry(224), thumbnail=False)


def ours_with_thumbnail(data: bytes) -> None:
    from datasette_image_search import pictures

    pictures.prepare(data, pictures.Geometry(224))


def entropy(data: bytes) -> None:
    picture = Image.open(io.BytesIO(data))
    picture.draft("L", (1, 1))
    picture.load()


KINDS = (plain, ours, plain_with_thumbnail, ours_with_thumbnail, entropy)


def timed(datas: list[bytes], runs: int) -> dict:
    """Kind → milliseconds a picture, of each run."""
    times: dict = {kind: [] for kind in KINDS}
    for kind in KINDS:
        kind(datas[0])
    for _ in range(runs):
        for kind in KINDS:
            began = time.process_time()
            for data in datas:
                kind(data)
            times[kind].append((time.process_time() - began) / len(datas) * 1e3)
    return times


def ratio(times: dict, one, other) -> float:
    return statistics.median(a / b for a, b in zip(times[one], times[other]))


def show_times(name: str, datas: list[bytes], runs: int) -> None:
    times = timed(datas, runs)
    size = sum(map(len, datas)) / len(datas) / 1e6
    print(f"{name}, {size:.1f} MB each: ms a picture")
    for slow, fast, what in (
        (plain, ours, "for a model"),
        (plain_with_thumbnail, ours_with_thumbnail, "and a thumbnail"),
    ):
        print(
            f"  {what:16} plain {statistics.median(times[slow]):6.1f}   "
            f"ours {statistics.median(times[fast]):6.1f}   {ratio(times, slow, fast):5.2f} ×"
        )
    print(
        f"  entropy decoding, which no scaling avoids: {statistics.median(times[entropy]):.1f}, "
        f"so at most {ratio(times, plain, entropy):.2f} ×"
    )


# -- what it changes --------------------------------------------------------------------


def show_cosines(name: str, originals: list[Image.Image]) -> None:
    from datasette_image_search import models
    from datasette_image_search.pictures import Geometry, decode, fit, wanted_side

    networks = []
    for id in ("mini", "resnet50"):
        model = models.get(id)
        networks.append((model, model.load(model.find_weights(), "cpu", "fp32")))
    print(f"{name}: cosine with the whole decode, least and median")
    for width in SIDES:
        size = (width, width * 3 // 4)
        datas = [encoded(one.resize(size, Image.Resampling.LANCZOS), 90) for one in originals]
        line = f"  {size[0]:4} × {size[1]:4}"
        for model, network in networks:
            geometry = Geometry(model.input_size)
            whole = np.stack([fit(decode(data)[0], geometry) for data in datas])
            reduced = [decode(data, wanted_side(geometry))[0] for data in datas]
            found = cosines(
                network.embed(whole),
                network.embed(np.stack([fit(one, geometry) for one in reduced])),
            )
            line += f"   {model.id} from {reduced[0].width:4}: {found.min():.4f} "
            line += f"{np.median(found):.4f}"
        print(line)


def show_worst(files: list[Path], side: int = 96) -> None:
    from datasette_image_search import models
    from datasette_image_search.pictures import Geometry, decode, fit

    model = models.get("mini")
    network = model.load(model.find_weights(), "cpu", "fp32")
    whole, reduced = [], []
    for data in map(Path.read_bytes, files):
        half, size = decode(data, side)
        if half.size != size and min(half.size) < 1.25 * side:
            whole.append(fit(decode(data)[0], Geometry(side)))
            reduced.append(fit(half, Geometry(side)))
    found = cosines(network.embed(np.stack(whole)), network.embed(np.stack(reduced)))
    print(
        f"{len(found)} as they are, by mini at {side} from at most {1.25 * side:.0f}: "
        f"cosine with the whole decode, least {found.min():.3f}, "
        f"lowest hundredth {np.quantile(found, 0.01):.3f}, median {np.median(found):.4f}"
    )


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / lengths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, help="a folder of pictures, to be enlarged")
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    seed_weights_if_missing()
    kinds = {"drawn": [drawn(seed) for seed in range(arguments.count)]}
    if arguments.pictures:
        files = sorted(arguments.pictures.rglob("*.jpg"))
        step = max(1, len(files) // arguments.count)
        chosen = files[::step][: arguments.count]
        kinds["enlarged"] = [enlarged(file, seed) for seed, file in enumerate(chosen)]
    for name, originals in kinds.items():
        for quality in QUALITIES:
            datas = [encoded(one, quality) for one in originals]
            show_times(f"{name}, quality {quality}", datas, arguments.runs)
        show_cosines(name, originals)
    if arguments.pictures:
        show_worst(files[:: max(1, len(files) // 1000)])


if __name__ == "__main__":
    main()
