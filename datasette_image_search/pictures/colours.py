"""Whatever a picture's pixels are, they become 8-bit RGB.

Where whole copies would be large, a strip of the picture is converted at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

_STRIP_PIXELS = 2**20


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
    clear = picture.info.get("transparency")  # in 16-bit grey, one value is transparent
    whole = Image.new("L", picture.size)
    for box in _strips(picture.size):
        values = np.asarray(picture.crop(box), np.float64)
        with np.errstate(invalid="ignore"):  # nan has no grey; it becomes the darkest
            scaled = np.nan_to_num((values.clip(low, high) - low) * (255 / ((high - low) or 1)))
        grey = scaled.round().astype(np.uint8)
        if isinstance(clear, int):
            grey[values == clear] = 255
        whole.paste(Image.fromarray(grey), box)
    return whole


def _range(picture: Image.Image) -> tuple[float, float]:
    """What is black and what is white in deep grey."""
    if picture.mode.startswith("I;"):
        return 0.0, 65535.0
    import numpy as np

    low = high = 0.0
    for box in _strips(picture.size):
        values = np.asarray(picture.crop(box), np.float64)
        values = values[np.isfinite(values)]
        low, high = float(values.min(initial=low)), float(values.max(initial=high))
    usual = 1.0 if picture.mode == "F" else 65535.0
    return (0.0, usual) if low >= 0 and high <= usual else (low, high)
