"""Figures for choosing: how well vectors find pictures of the same kind."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from data import main_clothes

from datasette_image_search.models import mini
from datasette_image_search.models.runtime import choose_precision
from datasette_image_search.pictures import Geometry, prepare


def normalised(pixels):
    """N×H×W×3 bytes → N×3×H×W floats as the network takes them."""
    values = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    return standardised(values.float() / 255)


def standardised(pictures):
    """The same for pictures in 0..1, on any device."""
    mean = torch.tensor(mini.MEAN, device=pictures.device).view(3, 1, 1)
    std = torch.tensor(mini.STD, device=pictures.device).view(3, 1, 1)
    return (pictures - mean) / std


def reduced_precision(device):
    """A context in which convolutions run in bfloat16, where the device multiplies in it."""
    device = torch.device(device)
    native = device.type != "cpu" or choose_precision("auto", device) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=native)


@torch.inference_mode()
def vectors(network, pixels, rows, device="cpu", batch=128):
    """Rows of a memory map of pictures → their vectors, N×D in float32."""
    network.eval()
    found = []
    for start in range(0, len(rows), batch):
        pictures = normalised(pixels[rows[start : start + batch]]).to(device)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with reduced_precision(device):
            found.append(network(pictures).float().cpu())
    return torch.cat(found).numpy()


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)


def precision_at_1(vectors, kinds, gallery=None, gallery_kinds=None):
    """Share of queries whose nearest other picture is of the same kind.

    Without a gallery the queries search each other; then a kind with one picture
    only is left out of the queries.
    """
    kinds = np.asarray(kinds)
    queries = unit(vectors)
    if gallery is None:
        scores = queries @ queries.T
        np.fill_diagonal(scores, -2)
        sizes = Counter(kinds.tolist())
        asked = np.array([sizes[kind] > 1 for kind in kinds])
        return float((kinds[scores.argmax(1)] == kinds)[asked].mean())
    nearest = (queries @ unit(gallery).T).argmax(1)
    return float((np.asarray(gallery_kinds)[nearest] == kinds).mean())


def validation_figures(vectors_of, pictures):
    """Precision at 1 on the validation part.

    `vectors_of` turns row numbers into vectors. `grocery`: a validation photo finds
    a training photo of the same product. `grocery_series`: validation photos among
    themselves, which is easy, as many were taken in one go: a colour histogram does
    it at 0.90, the former at 0.32. `clothing`: the ten largest kinds, among
    themselves; also easier where a sender took several pictures of one thing.
    """
    kinds = np.array(pictures.kinds)
    grocery = pictures.rows("validation", "grocery/")
    known = np.array(
        [
            row
            for row in pictures.rows("train", "grocery/")
            if pictures.files[row].parent.name == "photos"
        ]
    )
    clothing = pictures.rows("validation", "clothing/")
    main = main_clothes(pictures)
    clothing = np.array([row for row in clothing if kinds[row] in main])
    photos = vectors_of(grocery)
    figures = {
        "grocery": precision_at_1(photos, kinds[grocery], vectors_of(known), kinds[known]),
        "grocery_series": precision_at_1(photos, kinds[grocery]),
        "clothing": precision_at_1(vectors_of(clothing), kinds[clothing]),
    }
    left_out = pictures.rows("left out")
    if len(left_out):
        figures["left_out"] = precision_at_1(vectors_of(left_out), kinds[left_out])
    return figures


def pictures_of_kinds(folder, side):
    """A folder of folders: (pixels N×side×side×3, the folder of each), as the plugin reads them."""
    files = sorted(file for file in Path(folder).glob("*/*") if file.is_file())
    geometry = Geometry(side)
    pixels = [prepare(file.read_bytes(), geometry, thumbnail=False).pixels for file in files]
    return np.stack(pixels), [file.parent.name for file in files]


def colour_histograms(pixels):
    """The shares of 8×8×8 colours, as square roots: what colour alone can tell."""
    whole = [(0, 256)] * 3
    counts = [np.histogramdd(one.reshape(-1, 3), bins=8, range=whole)[0].ravel() for one in pixels]
    return np.sqrt(np.stack(counts))


def in_words(figures):
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
