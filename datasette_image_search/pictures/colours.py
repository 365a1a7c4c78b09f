"""Whatever a picture's pixels are, they become 8-bit RGB.

Where whole copies would be large, a strip of the picture is converted at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy as np

_STRIP_PIXELS = 2**20
# Tags of a TIFF, and what two of them say.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _UNSIGNED = 0, 1


def shorten_key(picture: Image.Image) -> None:
    """Make the transparent colour of a PNG, not loaded yet, one of those that it will have.

    Of 48-bit colours Pillow keeps the high bytes, but compares them with the key's low ones.
    """
    key = picture.info.get("transparency")
    if isinstance(key, tuple) and picture.tile and picture.tile[0][3] == "RGB;16B":
        picture.info["transparency"] = tuple(value >> 8 for value in key)


def rgb(picture: Image.Image) -> Image.Image:
    transparent = "transparency" in picture.info
    if picture.mode == "RGB" and not transparent:
        return picture
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        return _from_deep_grey(picture).convert("RGB")
    if transparent or picture.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        return _on_white(picture)
    return picture.convert("RGB")


def _strips(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of the picture's width that cover it, from the top."""
    width, height = size
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _on_white(picture: Image.Image) -> Image.Image:
    whole = Image.new("RGB", picture.size)
    for box in _strips(picture.size):
        layer = picture.crop(box).convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        whole.paste(Image.alpha_composite(paper, layer).convert("RGB"), box)
    return whole


def _from_deep_grey(picture: Image.Image) -> Image.Image:
    """8-bit grey from 16-bit, 32-bit or float: by the format's range where it is known."""
    import numpy as np  # only here and below, so that a decoder starts quickly

    low, high = _range(picture)
    upside_down = _tag(picture, _PHOTOMETRIC) == _WHITE_IS_ZERO  # Pillow sees to it in 8-bit grey
    clear = picture.info.get("transparency")  # in 16-bit grey, one value is transparent
    whole = Image.new("L", picture.size)
    for box in _strips(picture.size):
        values = _values(picture, box)
        with np.errstate(invalid="ignore"):  # nan has no grey; it becomes the darkest
            scaled = (values.clip(low, high) - low) * (255 / ((high - low) or 1))
            scaled = np.nan_to_num(255 - scaled if upside_down else scaled)
        grey = scaled.round().astype(np.uint8)
        if isinstance(clear, int):
            grey[values == clear] = 255
        whole.paste(Image.fromarray(grey), box)
    return whole


def _range(picture: Image.Image) -> tuple[float, float]:
    """What is zero and what is full in deep grey: black and white, or the other way round."""
    if picture.mode.startswith("I;"):  # a TIFF may have 12 bits
        return 0.0, 2.0 ** (_tag(picture, _BITS) or 16) - 1
    import numpy as np

    low = high = 0.0
    for box in _strips(picture.size):
        values = _values(picture, box)
        values = values[np.isfinite(values)]
        low, high = float(values.min(initial=low)), float(values.max(initial=high))
    usual = 1.0 if picture.mode == "F" else 65535.0
    return (0.0, usual) if low >= 0 and high <= usual else (low, high)


def _values(picture: Image.Image, box: tuple[int, int, int, int]) -> np.ndarray:
    """The greys of a strip, as they were meant: Pillow's 32 bits have a sign."""
    import numpy as np

    values = np.array(picture.crop(box), np.float64)
    if _tag(picture, _BITS) == 32 and _tag(picture, _SAMPLE_FORMAT) in (None, _UNSIGNED):
        values[values < 0] += 2.0**32
    return values


def _tag(picture: Image.Image, number: int) -> int | None:
    """The first value of a TIFF's tag; other formats have none."""
    value = getattr(picture, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) else value
