"""`mini`: a small network of our own, whose weights ship with the package.

A residual network (He et al., 2015, "Deep residual learning for image recognition")
made for processors without a GPU:

* The picture is first folded, 4×4 pixels into the channels of one, so that no
  convolution runs over a large, thin map (the "space to depth" stem of Ridnik et
  al., 2020, "TResNet"); on two cores it is twice as fast as a stride-2 stem.
* All the others are dense 3×3 convolutions. They cost more arithmetic than
  depthwise ones, and less time, since a processor runs them near to its peak.
* There is no batch normalisation here. It is there in training, and is folded into
  the convolutions when the weights are written (see `training/`).
* The vector is a linear map of what three stages pool, so that colour and texture
  (early stages) count beside shape (last stage). That map holds a whitening too.
* Pooling is a weighted mean: where to look is learned, and the middle counts more, as
  people put things there.
"""

from pathlib import Path

import torch
from torch import nn

from .merged import rectified, rectified_sum

INPUT_SIZE = 160
# Of ImageNet, the means as whole numbers of 0..255: what is left of a byte fits into bfloat16.
MEAN = (124 / 255, 116 / 255, 104 / 255)
STD = (0.229, 0.224, 0.225)
DIMENSIONS = 256
WEIGHTS_FILE = Path(__file__).with_name("mini.pt")

FOLD = 4  # pixels on a side folded into one position
WIDTHS = (48, 96, 160, 208)  # channels at 1/4, 1/8, 1/16 and 1/32 of the side
BLOCKS = (1, 1, 2, 1)  # residual blocks at each
POOLED = (1, 2, 3)  # the stages that are pooled into the feature
FOCUS = 1.5  # the middle of an edge counts exp(-FOCUS) of what the middle does, a corner its square
FEATURES = sum(WIDTHS[stage] for stage in POOLED)


def build_network():
    """The architecture alone, with random weights: N×3×H×W → N×DIMENSIONS."""
    return Mini()


class Mini(nn.Module):
    """Pictures to vectors. `batch_norm` is for training only."""

    def __init__(self, batch_norm=False):
        super().__init__()
        self.trunk = Trunk(batch_norm)
        self.head = nn.Linear(FEATURES, DIMENSIONS)

    def forward(self, pictures):
        """N×3×H×W, normalised by MEAN and STD → N×DIMENSIONS, of any length."""
        return self.head(self.trunk(pictures))


class FromBytes(nn.Module):
    """A trained Mini, as it is used: N×H×W×3 bytes → N×DIMENSIONS.

    Bytes are folded while they are bytes, and become numbers of the first convolution's
    precision at once; the division by STD is in that convolution's weights. For a network
    so small, normalising and folding in float32 took a quarter of the time.
    """

    def __init__(self, network: Mini):
        super().__init__()
        self.network = network
        stem, count = network.trunk.stem, FOLD**2
        with torch.no_grad():
            # folded bytes have a position's colours side by side, PixelUnshuffle its positions
            weight = stem.weight / (255 * torch.tensor(STD).repeat_interleave(count).view(-1, 1, 1))
            weight = weight.unflatten(1, (3, count)).transpose(1, 2).flatten(1, 2)
            stem.weight.copy_(weight)
        means = torch.tensor([round(255 * mean) for mean in MEAN]).repeat(count)
        self.register_buffer("means", means.float())

    def forward(self, pictures):
        """N×H×W×3 bytes → N×DIMENSIONS."""
        count, height, width, _ = pictures.shape
        height, width = height // FOLD, width // FOLD
        dtype = self.network.trunk.stem.weight.dtype
        # Long rows are quickly gone through: four bytes are moved as one number, and the
        # means repeated for all positions of a row.
        quads = pictures.flatten(2).view(torch.int32).view(count, height, FOLD, width, -1)
        folded = quads.transpose(2, 3).reshape(count, height, -1).view(torch.uint8)
        centred = folded.to(dtype).sub_(self.means.to(dtype).repeat(width))
        centred = centred.view(count, height, width, -1).permute(0, 3, 1, 2)
        return self.network.head(self.network.trunk.from_folded(centred))


class Trunk(nn.Module):
    """The convolutions, and the pooling of their stages."""

    def __init__(self, batch_norm=False):
        super().__init__()
        self.fold = nn.PixelUnshuffle(FOLD)
        self.stem = convolution(3 * FOLD**2, WIDTHS[0], batch_norm=batch_norm)
        self.stages = nn.ModuleList()
        self.pools = nn.ModuleList(Pool(WIDTHS[stage]) for stage in POOLED)
        channels = WIDTHS[0]
        for number, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            stage = nn.Sequential()
            for block in range(blocks):
                stride = 2 if block == 0 and number > 0 else 1
                stage.append(Residual(channels, width, stride, batch_norm))
                channels = width
            self.stages.append(stage)

    def forward(self, pictures):
        """N×3×H×W → N×FEATURES, in float32 whatever the convolutions ran in."""
        return self.from_folded(self.fold(pictures))

    def from_folded(self, folded):
        """The same from N×(3·FOLD²)×(H/FOLD)×(W/FOLD)."""
        maps = rectified(self.stem, folded)
        pooled, pools = [], iter(self.pools)
        for number, stage in enumerate(self.stages):
            maps = stage(maps)
            if number in POOLED:
                pooled.append(next(pools)(maps))
        return torch.cat(pooled, dim=1)


class Pool(nn.Module):
    """A mean over the positions of a map, weighted by what is there and where it is.

    N×C×H×W → N×C in float32. The weights of what is there begin all the same. Training
    shows parts of pictures, with nothing special in their middle: it is left out then.
    """

    def __init__(self, channels):
        super().__init__()
        self.score = nn.Parameter(torch.zeros(1, channels))

    def forward(self, maps):
        positions = maps.flatten(2).transpose(1, 2)  # channels last, as they are in memory
        scores = nn.functional.linear(positions, self.score.to(positions.dtype)).float()
        if not self.training:
            scores = scores - FOCUS * distances(maps).view(-1, 1)
        weights = scores.softmax(dim=1)
        weights = weights.transpose(1, 2).to(positions.dtype)
        return (weights @ positions).squeeze(1).float()


def distances(maps):
    """Squared distances from the middle, H×W; the edges' own middles are at 1."""
    rows, columns = (
        (torch.arange(side, device=maps.device) + 0.5) / side * 2 - 1 for side in maps.shape[2:]
    )
    return rows[:, None] ** 2 + columns**2


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut: N×C×H×W → N×width×H/stride×W/stride."""

    def __init__(self, channels, width, stride, batch_norm):
        super().__init__()
        self.first = convolution(channels, width, stride=stride, batch_norm=batch_norm)
        self.second = convolution(width, width, batch_norm=batch_norm)
        self.shortcut = nn.Identity()
        if stride != 1 or channels != width:
            # ceil_mode: an odd side is halved as the strided convolution halves it
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
                convolution(channels, width, size=1, batch_norm=batch_norm),
            )

    def forward(self, maps):
        return rectified_sum(self.second, rectified(self.first, maps), self.shortcut(maps))


def convolution(channels, width, size=3, stride=1, batch_norm=False):
    """A convolution with a bias, or with batch normalisation in place of the bias."""
    layer = nn.Conv2d(channels, width, size, stride, padding=size // 2, bias=not batch_norm)
    return nn.Sequential(layer, nn.BatchNorm2d(width)) if batch_norm else layer
