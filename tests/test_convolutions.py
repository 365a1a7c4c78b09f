"""Convolutions packed for the processor, and merged with what follows them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torchvision
from conftest import cosines
from torch import fx, nn

from datasette_image_search.models.merged import Rectified, RectifiedSum, merge
from datasette_image_search.models.packed import PackedConvolution, can_pack, pack, runs_in
from datasette_image_search.models.runtime import IMAGENET_MEAN, IMAGENET_STD, Normalised
from datasette_image_search.models.torchvision_zoo import ZOO

needs_packing = pytest.mark.skipif(not can_pack(), reason="this torch has no oneDNN")


@needs_packing
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_packed_convolutions_give_what_plain_ones_do_at_every_shape(precision):
    """The weights are laid out for the first shape; others come after it, and before."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, stride=2),
        nn.Conv2d(16, 16, 3, groups=16, bias=False),
        nn.Sequential(nn.Conv2d(16, 8, 3, padding="same", bias=False)),
        nn.Conv2d(8, 8, (1, 3), padding=(0, 1), padding_mode="reflect"),
        nn.Sequential(nn.ReLU(), nn.Conv2d(8, 24, 3, dilation=2)),
    ).to(dtype, memory_format=torch.channels_last)
    packed = copy.deepcopy(network)
    for _ in range(2):  # twice is as good as once
        pack(packed)
    kinds = [type(layer) for layer in packed.modules()]
    assert kinds.count(PackedConvolution) == 2
    with torch.inference_mode():
        for count, side in ((4, 32), (1, 32), (4, 31), (4, 32)):
            maps = torch.randn(count, 3, side, side, dtype=dtype)
            maps = maps.to(memory_format=torch.channels_last)
            ours, plain = packed(maps), network(maps)
            assert ours.shape == plain.shape and ours.dtype == plain.dtype
            ours, plain = (found.float().flatten(1).numpy() for found in (ours, plain))
            assert cosines(ours, plain).min() > 0.9999
        _check_what_follows(packed[0], network[0], dtype)
        again = copy.deepcopy(packed)(maps).float().flatten(1).numpy()
        assert np.array_equal(again, ours)


@needs_packing
def test_a_processor_multiplies_in_float32():
    assert runs_in(torch.float32)
    assert not runs_in(torch.float64)


def _check_what_follows(packed, plain, dtype):
    """A packed convolution may rectify its output, and add it to what is there already."""
    for side in (32, 30):  # packed for the first
        maps = torch.randn(4, 3, side, side, dtype=dtype).to(memory_format=torch.channels_last)
        expected = plain(maps)
        found = packed.rectified(maps)
        assert torch.allclose(found.float(), expected.relu().float(), atol=0.02)
        other = torch.randn_like(expected)
        wanted = (expected + other).relu().float()
        total = packed.rectified_sum(maps, other)
        # Where the processor does not multiply in this precision, nothing is packed.
        assert (total is other) == runs_in(dtype)
        # Rounded once and not twice: the last of bf16's eight bits may be another.
        assert torch.allclose(total.float(), wanted, atol=0.03, rtol=2**-7)


class Block(nn.Module):
    """Parts of networks, some of which may be merged."""

    def __init__(self, part):
        super().__init__()
        self.part = part
        self.one, self.two, self.three = (nn.Conv2d(6, 6, 3, padding=1) for _ in range(3))
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 1, 1)
        self.gentle = nn.ReLU()  # leaves what it is given
        self.smaller = nn.AdaptiveAvgPool2d(1)

    def forward(self, maps):
        return getattr(self, self.part)(maps)

    def residual(self, maps):
        inner = self.two(self.relu(self.one(maps)))
        inner += maps
        return self.relu(inner)

    def two_branches(self, maps):
        return self.relu(self.one(maps) + self.two(maps))

    def shortcut_of_its_own(self, maps):
        return self.relu(self.pool(maps) + self.one(maps))

    def seen_before_the_sum(self, maps):
        inner, kept = self.one(maps), self.two(maps)
        return self.gentle(inner) + self.gentle(inner + kept)

    def other_wanted_later(self, maps):
        other = self.pool(maps)
        return self.relu(self.one(maps) + other) * other

    def sum_wanted_later(self, maps):
        both = self.pool(maps) + self.one(maps)
        return self.gentle(both) - both

    def more_than_relu(self, maps):
        return self.relu(self.one(maps) + 1) + self.relu(self.one(maps) * maps)

    def one_with_itself(self, maps):
        inner = self.one(maps)
        return self.relu(inner + inner)

    def given_itself(self, maps):
        first = self.relu(self.one(maps))
        return self.relu(self.two(first) + first)

    def rectified_in_place_before(self, maps):
        inner, kept = self.one(maps), self.two(maps)
        return self.relu(inner) + self.relu(inner + kept)

    def read_again_before_the_sum(self, maps):
        first = self.one(maps)
        kept = self.two(first)
        return self.relu(kept) + self.relu(self.three(maps) + first)

    def input_rectified_in_place_after(self, maps):
        first = self.one(maps)
        short, kept = self.two(first), self.relu(first)
        return self.relu(short) + self.three(kept)

    def activated_before(self, maps):
        first = self.one(maps)
        short = self.two(first)
        return self.relu(short + self.three(self.relu(first)))

    def other_of_another_shape(self, maps):
        return self.relu(self.one(maps) + self.two(self.smaller(maps)))

    def chain(self, maps):
        first = self.relu(self.one(maps))
        second = self.relu(self.two(self.relu(self.three(first))) + first)
        return self.relu(second + self.two(self.relu(self.one(second))))


# What is merged of each: maximum alone, and with a sum.
MERGED = {
    "residual": (1, 0),  # maps are the caller's
    "two_branches": (0, 1),
    "shortcut_of_its_own": (0, 1),
    "seen_before_the_sum": (0, 0),  # by what may keep it, for all we know
    "other_wanted_later": (0, 0),
    "sum_wanted_later": (0, 0),
    "more_than_relu": (0, 0),
    "one_with_itself": (0, 0),
    "given_itself": (1, 0),
    "rectified_in_place_before": (0, 0),
    "read_again_before_the_sum": (1, 1),
    "input_rectified_in_place_after": (1, 0),
    "activated_before": (0, 1),
    "other_of_another_shape": (0, 1),
    "chain": (3, 2),
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("order", ["channels_last", "contiguous_format"])
@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=needs_packing)])
@pytest.mark.parametrize("part", MERGED)
def test_a_merged_network_computes_what_it_did(part, packed, order, precision):
    torch.manual_seed(0)
    dtype, off = {"fp32": (torch.float32, 1e-5), "bf16": (torch.bfloat16, 0.05)}[precision]
    block = Block(part).eval().to(dtype)
    maps = torch.randn(2, 6, 9, 9, dtype=dtype).to(memory_format=getattr(torch, order))
    given = maps.clone()
    with torch.inference_mode():
        expected = block(maps.clone())
        network = merge(fx.symbolic_trace(block))
        if packed:
            pack(network)
        for _ in range(2):
            assert torch.allclose(network(maps), expected, atol=off)
        assert torch.equal(maps, given)
    kinds = [type(layer) for layer in network.modules()]
    assert (kinds.count(Rectified), kinds.count(RectifiedSum)) == MERGED[part]


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.id)
def test_the_zoo_computes_what_torchvision_does(entry):
    """In float32, with the batch norms folded, what can be merged merged, and packed."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(entry.id, weights=None).eval()
    side = 224 if entry.id.startswith("vit") else 96
    pictures = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    ours = Normalised(copy.deepcopy(network)).to(memory_format=torch.channels_last)
    pack(ours)
    with torch.inference_mode():
        floats = pictures.permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(one).view(3, 1, 1) for one in (IMAGENET_MEAN, IMAGENET_STD))
        expected = network((floats - mean) / std)
        assert torch.allclose(ours(pictures), expected, atol=1e-3 * expected.abs().max().item())


def test_all_of_resnet50_is_merged():
    network = Normalised(torchvision.models.resnet50(weights=None))
    kinds = [type(layer) for layer in network.modules()]
    assert (kinds.count(Rectified), kinds.count(RectifiedSum)) == (33, 16)
    assert nn.ReLU not in kinds and nn.BatchNorm2d not in kinds
