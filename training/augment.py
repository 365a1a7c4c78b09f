"""Augmentation of whole batches on tensors: one warp, one colour matrix.

Everything is drawn per picture and applied to the batch at once, which on a CPU
takes a small part of the time of the network's own step.
"""

import math

import torch
import torch.nn.functional as F

# From RGB to luma and two colour differences (the YIQ of NTSC), where a turn of the
# last two is a shift of hue and a stretch of them a change of saturation.
TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def uniform(count, low, high, generator, device):
    return torch.empty(count, device=device).uniform_(low, high, generator=generator)


def warp(pictures, size, generator, smallest, turn, largest=1.0):
    """Crop, stretch, flip and rotate, in one bilinear sampling.

    N×3×H×W → N×3×size×size. The crop's area is `smallest` to `largest` of the picture
    (above 1 more than the picture is shown), its shape 3:4 to 4:3 (as in Szegedy et al.,
    2014), the turn up to `turn` degrees.
    """
    count, device = len(pictures), pictures.device
    area = uniform(count, smallest, largest, generator, device)
    shape = torch.exp(uniform(count, math.log(3 / 4), math.log(4 / 3), generator, device))
    longest = max(1.0, largest) ** 0.5
    width = (area * shape).sqrt().clamp(max=longest)
    height = (area / shape).sqrt().clamp(max=longest)
    x = uniform(count, -1, 1, generator, device) * (1 - width)
    y = uniform(count, -1, 1, generator, device) * (1 - height)
    angle = uniform(count, -1, 1, generator, device) * math.radians(turn)
    # most pictures stand upright in real tables: turn half of them only
    angle = angle * (uniform(count, 0, 1, generator, device) < 0.5)
    flip = torch.where(uniform(count, 0, 1, generator, device) < 0.5, -1.0, 1.0)
    matrix = torch.stack(
        [
            torch.stack([flip * width * angle.cos(), -width * angle.sin(), x], dim=1),
            torch.stack([flip * height * angle.sin(), height * angle.cos(), y], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix, [count, 3, size, size], align_corners=False)
    # what lies outside: the picture mirrored, its edge drawn out, or black
    outside = ("reflection", "border", "zeros")
    draw = int(uniform(1, 0, len(outside), generator, device))
    return F.grid_sample(pictures, grid, padding_mode=outside[draw], align_corners=False)


def recolour(pictures, generator, tint=0.0, strength=0.4):
    """Brightness, contrast, saturation, hue and the colour of the light, as one 3×3 matrix
    and an offset each. `tint` is how far the three colours' lights differ (a deviation).

    Pictures in 0..1, N×3×H×W → the same.
    """
    count, device = len(pictures), pictures.device
    light = 1 + strength * uniform(count, -1, 1, generator, device)
    contrast = 1 + strength * uniform(count, -1, 1, generator, device)
    saturation = 1 + 1.25 * strength * uniform(count, -1, 1, generator, device)
    saturation[uniform(count, 0, 1, generator, device) < 0.05] = 0  # grey
    # a small shift of hue for all (colour tells fruit apart), a large one for a few
    hue = 0.2 * uniform(count, -1, 1, generator, device)
    hue = torch.where(uniform(count, 0, 1, generator, device) < 0.15, 4 * hue, hue)

    turn = torch.zeros(count, 3, 3, device=device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * hue.cos()
    turn[:, 1, 2] = -saturation * hue.sin()
    turn[:, 2, 1] = saturation * hue.sin()
    to = TO_YIQ.to(device)
    gain = (light * contrast)[:, None, None]
    matrix = gain * (torch.linalg.inv(to) @ turn @ to)
    if tint:
        lights = torch.empty(count, 3, device=device).normal_(0, tint, generator=generator)
        matrix = matrix * torch.exp(lights - lights.mean(dim=1, keepdim=True))[:, None, :]
    # contrast keeps the picture's own mean brightness
    mean = pictures.mean(dim=(1, 2, 3)) * light
    offset = (mean * (1 - contrast))[:, None, None]
    flat = torch.baddbmm(offset, matrix, pictures.flatten(2))
    return flat.clamp_(0, 1).view_as(pictures)


def spoil(pictures, generator, share=0.25):
    """Blur a `share` of the batch, add noise to as many others. In place.

    Batches are shuffled, so that a run of neighbours is a random choice.
    """
    count = int(len(pictures) * share)
    draw = uniform(1, 0, 1, generator, pictures.device).item()
    start = int(draw * (len(pictures) - 2 * count + 1))
    size = pictures.shape[-2:]
    blurred = pictures[start : start + count]
    small = F.interpolate(blurred, scale_factor=0.5, mode="area")
    blurred.copy_(F.interpolate(small, size=size, mode="bilinear"))
    noisy = pictures[start + count : start + 2 * count]
    noise = torch.empty_like(noisy).normal_(0, 0.06, generator=generator)
    noisy.add_(noise).clamp_(0, 1)
    return pictures


def view(pictures, size, generator, smallest=0.25, turn=20.0, tint=0.0, largest=1.0):
    """One random view of each picture: N×3×H×W in 0..1 → N×3×size×size in 0..1."""
    warped = warp(pictures, size, generator, smallest, turn, largest)
    return spoil(recolour(warped, generator, tint), generator)


def cut_and_mix(pictures, generator):
    """Paste one rectangle of other pictures (Yun et al., 2019, "CutMix").

    Returns the pictures, the order of the others, and the share of each own picture
    that is left (one number for the batch). In place.
    """
    count, _, height, width = pictures.shape
    device = pictures.device
    order = torch.randperm(count, generator=generator, device=device)
    cut = uniform(1, 0.1, 0.6, generator, device).item() ** 0.5
    rows, columns = int(height * cut), int(width * cut)
    place = uniform(2, 0, 1, generator, device).tolist()
    top, left = int(place[0] * (height - rows)), int(place[1] * (width - columns))
    box = slice(top, top + rows), slice(left, left + columns)
    pictures[:, :, box[0], box[1]] = pictures[order][:, :, box[0], box[1]]
    return pictures, order, 1 - rows * columns / (height * width)
