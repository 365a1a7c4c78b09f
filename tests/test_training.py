"""The script that makes `mini`, on a handful of drawn pictures."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import COLOURS, SHAPES, draw

from datasette_image_search.models import mini

SCRIPT = Path(__file__).parent.parent / "training" / "train.py"
SMALL = ["--sizes", "32", "64", "--batch", "8", "--large", "1", "--cooldown", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder like the one that `mini` is trained on: a shop's and some senders' pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = {"grocery/photos": [], "grocery/products": [], "clothing/photos": []}
    for number, (shape, colour) in enumerate((s, c) for s in SHAPES for c in COLOURS):
        for kind, its in rows.items():
            image = f"{kind.rpartition('/')[2]}/{number}.png"
            file = folder / kind.partition("/")[0] / image
            file.parent.mkdir(parents=True, exist_ok=True)
            draw(shape, colour, (60, 50)).save(file)
            its.append({"image": image, "id": number % 8, "product_id": number % 8})
            its[-1] |= {"split": "train" if number < 16 else "val"}
            its[-1] |= {"label": shape if number % 7 else "Not sure", "sender": f"sender {number}"}
    for name, its in rows.items():
        with open(folder / f"{name}.csv", "w", newline="") as out:
            writer = csv.DictWriter(out, its[0].keys())
            writer.writeheader()
            writer.writerows(its)
    return folder


def command(pictures, work, *options):
    files = ["--pictures", pictures, "--work", work, "--weights", work / "weights.pt"]
    words = [*files, "--name", "run", *SMALL]
    return [sys.executable, str(SCRIPT), *map(str, [*words, *options])]


def train(pictures, work, *options):
    found = subprocess.run(
        command(pictures, work, *options), capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def unbroken(pictures, tmp_path_factory):
    work = tmp_path_factory.mktemp("unbroken")
    return work, train(pictures, work, "--epochs", 2)


def test_the_weights_written_are_those_of_a_mini(unbroken):
    work, said = unbroken
    assert "epoch 2/2 at 64 px" in said and "validation P@1" in said
    weights = torch.load(work / "weights.pt", weights_only=True)
    network = mini.build_network()
    network.load_state_dict(weights)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert torch.isfinite(network.head.weight).all()


def test_a_killed_run_goes_on_to_the_same_weights(pictures, unbroken, tmp_path):
    started = command(pictures, tmp_path, "--epochs", 2)
    with subprocess.Popen(started, stdout=subprocess.DEVNULL) as run:
        while run.poll() is None and not (tmp_path / "run.pt").exists():
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    said = train(pictures, tmp_path, "--epochs", 2)
    assert "resumed after epoch 1" in said and "epoch 1/2" not in said
    whole = torch.load(unbroken[0] / "weights.pt", weights_only=True)
    mine = torch.load(tmp_path / "weights.pt", weights_only=True)
    for name, value in whole.items():
        np.testing.assert_allclose(mine[name].float(), value.float(), atol=2e-3, err_msg=name)


def test_what_a_teacher_says_is_learned(pictures, tmp_path):
    said = train(pictures, tmp_path, "--epochs", 4, "--teacher", mini.WEIGHTS_FILE)
    far = [float(value) for value in re.findall(r"imitation ([\d.]+)", said)]
    assert len(far) == 4 and far[-1] < 0.8 * far[0]
