"""What plain training gives on the same pictures: the model card's yardstick.

    python training/baseline.py --pictures FOLDER

MobileNetV3-small (Howard et al., 2019) from scratch, a softmax over the kinds, one view
of each picture an epoch, AdamW and a cosine schedule. Its pooled features are measured
as `mini` is measured in training, on the same validation pictures, at the side they were
trained at. No weights are written.
"""

import argparse
import math
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.models import mobilenet_v3_small

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from augment import view
from data import CACHE_SIZE, cached, leave_out, read_tables
from measure import (
    colour_histograms,
    in_words,
    pictures_of_kinds,
    precision_at_1,
    standardised,
    validation_figures,
    vectors,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--pictures", type=Path, required=True, help="folder with grocery/ and clothing/")
    add("--work", type=Path, default=Path(__file__).parent / ".cache")
    add("--epochs", type=int, default=40)
    add("--side", type=int, default=128, help="pixels, in training and in the test")
    add("--batch", type=int, default=64)
    add("--rate", type=float, default=1e-3)
    add("--decay", type=float, default=0.05)
    add("--leave-out", type=int, default=0, help="clothes not trained on, measured apart")
    add("--kinds", type=Path, help="a folder of folders: pictures of other kinds, measured too")
    add("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    pictures = read_tables(options.pictures)
    leave_out(pictures, options.leave_out)
    names, labels = pictures.labels()
    labels = torch.from_numpy(labels)
    rows = pictures.rows("train")
    rows = rows[labels[rows].numpy() >= 0]
    pixels = cached(pictures.files, CACHE_SIZE, options.work)
    tested = cached(pictures.files, options.side, options.work)
    network = mobilenet_v3_small(num_classes=len(names)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=options.decay)
    steps = len(rows) // options.batch
    for epoch in range(options.epochs):
        started, total = time.monotonic(), 0.0
        seed = options.seed * 10_000 + epoch
        generator = torch.Generator().manual_seed(seed)
        order = np.random.default_rng(seed).permutation(rows)
        network.train()
        for step in range(steps):
            chosen = order[step * options.batch : (step + 1) * options.batch]
            progress = (epoch + step / steps) / options.epochs
            rise = min(1.0, (epoch + step / steps) / 2)
            for group in optimiser.param_groups:
                group["lr"] = options.rate * rise * (1 + math.cos(math.pi * progress)) / 2
            batch = torch.from_numpy(pixels[chosen]).permute(0, 3, 1, 2).contiguous()
            seen = view(batch.float().div_(255), options.side, generator, smallest=0.35)
            seen = standardised(seen).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(seen), labels[chosen], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        took = time.monotonic() - started
        print(f"epoch {epoch + 1}/{options.epochs}: {total / steps:.3f}, {took:.0f} s", flush=True)
        if (epoch + 1) % 10 == 0 or epoch + 1 == options.epochs:
            features = torch.nn.Sequential(network.features, network.avgpool, torch.nn.Flatten())
            found = validation_figures(partial(vectors, features.eval(), tested), pictures)
            if options.kinds:
                other, kinds = pictures_of_kinds(options.kinds, options.side)
                seen = vectors(features, other, np.arange(len(other)))
                found["other_kinds"] = precision_at_1(seen, kinds)
                found["by_colour"] = precision_at_1(colour_histograms(other), kinds)
            print(f"  validation P@1 of the pooled features: {in_words(found)}", flush=True)


if __name__ == "__main__":
    main()
