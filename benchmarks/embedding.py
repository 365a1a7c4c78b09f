"""The whole `embed` beside the published loop, on the same files and weights, in one run.

    python -m benchmarks.embedding [--pictures FOLDER] [--count 192] [--runs 3]

The loop is the recipe as it is published: open a picture, Resize((224, 224)), ToTensor,
Normalize, ResNet-50 without its classifier, one picture at a time, in float32. Weights
come from a fixed seed where torch's cache has none: they take the same time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def drawn_pictures(folder: Path, count: int) -> None:
    """JPEG files of 400×350 with a photo's share of detail."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        coarse = random.integers(0, 256, (25, 29, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((400, 350), Image.Resampling.BICUBIC)
        noise = random.normal(0, 6, (350, 400, 3))
        pixels = (np.asarray(picture) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=88)


def copied_pictures(source: Path, folder: Path, count: int) -> None:
    folder.mkdir()
    for number, file in enumerate(sorted(source.rglob("*.jpg"))[:count]):
        (folder / f"{number:05}.jpg").write_bytes(file.read_bytes())


def published_loop(files: list[Path]) -> float:
    """Seconds for the loop over ``files``, the network loaded before."""
    import torch
    import torchvision
    from torchvision import transforms

    network = torchvision.models.resnet50(weights="IMAGENET1K_V1").eval()
    network = torch.nn.Sequential(*list(network.children())[:-1])
    prepare = transforms.Compose(
        [
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    vectors = []
    began = time.perf_counter()
    with torch.no_grad():
        for file in files:
            picture = prepare(Image.open(file).convert("RGB")).unsqueeze(0)
            vectors.append(network(picture).flatten().numpy())
    return time.perf_counter() - began


def whole_embed(folder: Path, work: Path, model: str, **options) -> float:
    """Seconds for `embed` on a table of ``folder``: reading, network, database, sidecar."""
    from datasette_image_search.collection import EmbedOptions, embed, load

    database = work / f"{time.monotonic_ns()}.db"
    load(database, "pictures", folder)
    began = time.perf_counter()
    summary = embed(database, "pictures", EmbedOptions(model=model, device="cpu", **options))
    taken = time.perf_counter() - began
    assert summary.embedded and not summary.failed, summary
    return taken


def network_alone(model: str, count: int) -> float:
    """Seconds for the network on ``count`` pictures that are in memory, in its own batches."""
    from datasette_image_search import models

    entry = models.get(model)
    network = entry.load(entry.find_weights(), "cpu")
    size = network.batch_size
    shape = (size, entry.input_size, entry.input_size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    network.embed(batch)
    began = time.perf_counter()
    for _ in range(count // size):
        network.embed(batch)
    return (time.perf_counter() - began) * count / (count // size * size)


def seed_weights_if_missing() -> None:
    import torch
    import torchvision

    from datasette_image_search import models

    model = models.get("resnet50")
    if model.weights_here():
        return
    home = Path(tempfile.mkdtemp())
    os.environ["TORCH_HOME"] = str(home)
    path = home / "hub" / "checkpoints" / model.default_file
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, help="a folder of pictures (default: drawn)")
    parser.add_argument("--count", type=int, default=192)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    seed_weights_if_missing()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "pictures")
        if arguments.pictures:
            copied_pictures(arguments.pictures, folder, arguments.count)
        else:
            drawn_pictures(folder, arguments.count)
        files = sorted(folder.iterdir())
        count = len(files)
        kinds = {
            "published loop, resnet50": lambda: published_loop(files),
            "embed --model resnet50": lambda: whole_embed(folder, Path(work), "resnet50"),
            "the network alone, resnet50": lambda: network_alone("resnet50", count),
            "embed --model mini": lambda: whole_embed(folder, Path(work), "mini"),
        }
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for run in kinds.values():
            run()  # warm up: imports, page cache, lazy initialisation
        for _ in range(arguments.runs):
            for name, run in kinds.items():
                times[name].append(run())
    print(f"{count} pictures, medians of {arguments.runs} runs\n")
    print(f"{'':30}{'pictures/s':>12}{'× the loop':>12}")
    for name, taken in times.items():
        ratios = [a / b for a, b in zip(times["published loop, resnet50"], taken)]
        speed = count / statistics.median(taken)
        print(f"{name:30}{speed:12.1f}{statistics.median(ratios):12.2f}")


if __name__ == "__main__":
    main()
