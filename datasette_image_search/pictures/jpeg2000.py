"""JPEG 2000 at a half, a quarter, …: its decoder stops where the picture is large enough.

The file holds the picture at one size within the next, so that what is decoded is bounded by
the size that is wanted; what is set aside for the rest, by how finely it is divided.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFile

# Of a picture too large to be decoded whole, so much is: many times what a model sees. And at
# most so much: beside it there are the notes below.
_ENOUGH_PIXELS, _MOST_PIXELS = 10_000_000, 25_000_000
_START, _CODING, _OF_ONE_COLOUR, _TILE = b"\xff\x4f\xff\x51", 0xFF52, 0xFF53, 0xFF90
_KNOWN = range(0xFF50, 0xFF90)
_MOST_MARKERS = 100
# Blocks of 32 × 32 samples (2 to the tenth) at least: the decoder keeps a note of each,
# wanted or not. A further division, which this flag tells of, may be as fine as one likes.
_LEAST_BLOCK, _FURTHER_DIVIDED = 10, 1


def halvings(data: bytes, size: tuple[int, int], smallest_side: int) -> int:
    """How often a picture should be halved for its decoder, its sides at least ``smallest_side``.

    0 where its file does not have it so, or would cost the decoder as much as the whole.
    """
    times, levels = 0, _levels(data)
    while (
        times < levels
        and min(size) >> (times + 1) >= smallest_side
        and math.prod(size) >> (2 * times) > _ENOUGH_PIXELS
    ):
        times += 1
    return times if math.prod(size) >> (2 * times) <= _MOST_PIXELS else 0


def halve(picture: ImageFile.ImageFile, times: int) -> tuple[int, int]:
    """Have ``picture`` decoded at a half of its size so many ``times``; the size that it will have.

    Its decoder rounds up, and Pillow (13 at least) to the nearest, and fails where the two differ:
    of sides that are whole multiples both make the same.
    """
    power = 2**times
    small = tuple(-(-side // power) for side in picture.size)
    picture._size = tuple(side * power for side in small)
    picture.reduce = times
    return small


def _levels(data: bytes) -> int:
    """How often the picture in a file is halved there; 0 where it is not divided as usual."""
    at = data.find(_START) + 2
    levels = 0
    for _ in range(_MOST_MARKERS):
        marker, length = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (0, 2))
        if marker in (_TILE, _OF_ONE_COLOUR) or marker not in _KNOWN or length < 2:
            return levels if marker == _TILE else 0
        coding = data[at + 4 : at + 12]
        if marker == _CODING and len(coding) == 8:
            block = (coding[6] & 15) + (coding[7] & 15) + 4
            levels = coding[5]
            if coding[0] & _FURTHER_DIVIDED or block < _LEAST_BLOCK or levels > 32:
                return 0
        at += 2 + length
    return 0
