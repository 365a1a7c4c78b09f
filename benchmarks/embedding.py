"""The whole `embed` beside the published loop, on the same files and weights, in one run.

    python -m benchmarks.embedding [--pictures FOLDER] [--count 192] [--runs 3] [--only LINE …]

The loop is the recipe as it is published: open a picture, Resize((224, 224)), ToTensor,
Normalize, ResNet-50 without its classifier, one picture at a time, in float32. Weights
come from a fixed seed where torch's cache has none: they take the same time.

Where `img2vec_pytorch` can be imported, so are its two ways: one picture at a time, and
lists of 16. (`pip install --target FOLDER --no-deps img2vec_pytorch`, FOLDER in PYTHONPATH.)

"Network alone" is the network in its own batches on pictures in memory: the most that any
pipeline around it can reach; "decoding alone" is one core's. "In plain torch" is the same
without what the plugin does for its speed beside precision, memory format and batches (batch
norms folded into convolutions, which do what follows them; memory that is kept). An `embed` is
measured from its call to its end, the network's loading included; "going" is its speed after
the first quarter of the pictures. The last lines set `mini` beside `resnet50`; without
thumbnails it is the way from files to vectors.

Each line has a process of its own, warmed up before; they run in turn. `--only embed` measures
the lines that begin so: many pictures, as tables have, take the loops very long.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
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


def img2vec(files: list[Path], together: int) -> float | None:
    """Seconds for img2vec_pytorch's ResNet-50 over ``files``, loaded before; None without it."""
    try:
        from img2vec_pytorch import Img2Vec
    except ImportError:
        return None
    network = Img2Vec(cuda=False, model="resnet50")
    began = time.perf_counter()
    for start in range(0, len(files), together):
        pictures = [Image.open(file).convert("RGB") for file in files[start : start + together]]
        network.get_vec(pictures if together > 1 else pictures[0])
    return time.perf_counter() - began


class Going:
    """Progress that knows how fast an embed was after the first quarter."""

    def tell(self, sentence: str) -> None: ...

    def start(self, total: int) -> None:
        self._total, self._done, self._quarter = total, 0, None

    def advance(self, rows: int) -> None:
        self._done += rows
        if self._quarter is None and self._done >= self._total / 4:
            self._quarter = time.perf_counter(), self._done

    def seconds(self) -> float:
        """What all of it would have taken at that speed."""
        began, done = self._quarter
        return (time.perf_counter() - began) * self._total / (self._total - done)


def whole_embed(folder: Path, work: Path, model: str, **options) -> tuple[float, float]:
    """Seconds for `embed` on a table of ``folder``, and for as many once it is going.

    Reading, decoding, thumbnails, network, database and sidecar.
    """
    from datasette_image_search.cli.batches import prepare_for_batches
    from datasette_image_search.collection import EmbedOptions, embed, load

    prepare_for_batches()  # as the command does
    database = work / f"{time.monotonic_ns()}.db"
    load(database, "pictures", folder)
    going = Going()
    chosen = EmbedOptions(model=model, device="cpu", **options)
    began = time.perf_counter()
    summary = embed(database, "pictures", chosen, progress=going)
    taken = time.perf_counter() - began
    assert summary.embedded and not summary.failed, summary
    return taken, going.seconds()


def decoding_alone(files: list[Path], model: str) -> float:
    """Seconds for one processor to decode ``files`` and bring them to a model's size."""
    from datasette_image_search import models, pictures

    geometry = pictures.Geometry(models.get(model).input_size)
    began = time.perf_counter()
    for file in files:
        pictures.prepare(file.read_bytes(), geometry, thumbnail=False)
    return time.perf_counter() - began


def network_alone(model: str, count: int) -> float:
    """Seconds for the network on ``count`` pictures that are in memory, in its own batches."""
    from datasette_image_search import models
    from datasette_image_search.cli.batches import keep_freed_memory

    keep_freed_memory()
    entry = models.get(model)
    network = entry.load(entry.find_weights(), "cpu")
    size = network.batch_size
    shape = (size, entry.input_size, entry.input_size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with models.workers(network) as threads:
        return repeated(
            lambda times: list(threads.map(network.embed, [batch] * times)), size, count
        )


def torch_network():
    """torchvision's ResNet-50 without its classifier, channels-last, and its precision.

    That is bf16 where the processor is faster in it, as ours is. Its batch norms are not
    folded into its convolutions, as ours are.
    """
    import torch
    import torchvision

    from datasette_image_search.models.runtime import choose_precision

    precision = choose_precision("auto", torch.device("cpu"))
    network = torchvision.models.resnet50(weights="IMAGENET1K_V1").eval()
    network = torch.nn.Sequential(*list(network.children())[:-1])
    return network.to(precision, memory_format=torch.channels_last), precision


def network_in_torch(count: int) -> float:
    """Seconds for :func:`torch_network` on ``count`` pictures in memory, 16 a batch."""
    import torch

    network, precision = torch_network()
    batch = torch.rand(16, 3, 224, 224, dtype=precision)
    batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return repeated(lambda n: [network(batch) for _ in range(n)], 16, count)


def repeated(run, size: int, count: int) -> float:
    """Seconds for ``count`` pictures of ``run(batches)``, of ``size`` each, once it is warm."""
    run(4)
    batches = max(1, count // size)
    began = time.perf_counter()
    run(batches)
    return (time.perf_counter() - began) * count / (batches * size)


class Apart:
    """A function in a process of its own: none changes another's memory or threads."""

    def __init__(self, run, *arguments, **options):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        work = (theirs, run, arguments, options)
        context.Process(target=_answer, args=work, daemon=True).start()

    def __call__(self) -> tuple:
        self._pipe.send(True)
        taken = self._pipe.recv()
        return taken if isinstance(taken, tuple) else (taken,)


def _answer(pipe, run, arguments, options) -> None:
    with suppress(EOFError):  # nobody will ask any more
        while pipe.recv():
            pipe.send(run(*arguments, **options))


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
    (path.parent / "resnet50-11ad3fa6.pth").symlink_to(path)  # what img2vec_pytorch takes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, help="a folder of pictures (default: drawn)")
    parser.add_argument("--count", type=int, default=192)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[""], metavar="LINE", help="that begin so")
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
        loop, alone = "published loop, resnet50", "the network alone, {}"
        lines = {
            (loop,): partial(Apart, published_loop, files),
            ("img2vec_pytorch, one by one",): partial(Apart, img2vec, files, 1),
            ("img2vec_pytorch, lists of 16",): partial(Apart, img2vec, files, 16),
            ("the network in plain torch, resnet50",): partial(Apart, network_in_torch, count),
        }
        for model in ("resnet50", "mini"):
            decoding = f"decoding alone, one core, {model}"
            lines[(alone.format(model),)] = partial(Apart, network_alone, model, count)
            lines[(decoding,)] = partial(Apart, decoding_alone, files, model)
            for without in ("", " --no-thumbnails"):
                name = f"embed --model {model}{without}"
                lines[name, f"{name}, going"] = partial(
                    Apart, whole_embed, folder, Path(work), model, thumbnails=not without
                )
        kinds = {
            names: start()
            for names, start in lines.items()
            if names[0].startswith(tuple(arguments.only))
        }
        times: dict[str, list[float]] = {name: [] for names in kinds for name in names}
        for names, run in kinds.items():
            going_on(f"warming up: {names[0]}")
            run()  # imports, page cache, lazy initialisation
        for number in range(1, arguments.runs + 1):
            for names, run in kinds.items():
                going_on(f"run {number} of {arguments.runs}: {names[0]}")
                for name, taken in zip(names, run()):
                    times[name].append(taken)
    print(f"{count} pictures, medians of {arguments.runs} runs\n")
    print(f"{'':46}{'pictures/s':>12}{'× the loop':>12}{'× the network':>15}")
    for name, taken in times.items():
        if None in taken:
            continue
        best = alone.format("mini" if "mini" in name else "resnet50")
        print(
            f"{name:46}{count / statistics.median(taken):12.1f}"
            f"{beside(times.get(loop), taken):>12}{beside(times.get(best), taken):>15}"
        )
    pairs = [(name, name.replace("resnet50", "mini")) for name in times if "resnet50" in name]
    pairs = [(name, other) for name, other in pairs if other in times]
    if pairs:
        print("\nmini beside resnet50")
    for name, other in pairs:
        faster = ratio(times[name], times[other])
        print(f"{name.replace('resnet50', '...'):46}{faster:12.1f} times")


def going_on(what: str) -> None:
    """Beside the table, which comes after many minutes."""
    print(what, file=sys.stderr, flush=True)


def beside(best: list[float] | None, taken: list[float]) -> str:
    """How fast, beside what was the best; nothing where that was not measured."""
    return "" if best is None else f"{ratio(best, taken):.2f}"


def ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other))


if __name__ == "__main__":
    main()
