"""From the bytes of a file to an upright RGB picture, a model's input, a thumbnail.

Every model sees the same: EXIF orientation applied, transparency laid on white,
grey, palette, 16-bit, float and CMYK turned into 8-bit RGB, the first frame of many.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .errors import PictureError, UsageError

# Only what people keep pictures in: each further decoder is a door.
# JPEG stands for MPO too: Pillow opens both by the same door.
FORMATS = (
    "JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO"
)  # fmt: skip
MAX_PIXELS = 100_000_000  # as decoded: 300 MB of RGB
RESIZES = ("squash", "crop", "pad")
THUMBNAIL_SIDE = 256
THUMBNAIL_QUALITY = 80

# Our own limit is checked before anything is decoded; Pillow's warning would come twice.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Geometry:
    """What a model wants to see: a square of ``size`` pixels, reached by ``resize``.

    ``squash`` ignores the aspect ratio (the published recipe), ``crop`` keeps the
    middle, ``pad`` keeps everything on white.
    """

    size: int
    resize: str = "squash"

    def __post_init__(self):
        if self.resize not in RESIZES:
            raise UsageError(
                f"there is no way to resize named {self.resize!r}; there are {', '.join(RESIZES)}."
            )

    def __str__(self) -> str:
        return f"{self.resize} {self.size}"


@dataclass(frozen=True)
class Prepared:
    """A decoded picture: upright size, ``pixels`` (size × size × 3 uint8), thumbnail JPEG."""

    width: int
    height: int
    pixels: np.ndarray
    thumbnail: bytes | None


def sha256(data: bytes) -> str:
    """A picture's identity: the SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def picture_id(digest: str) -> int:
    """The id (63 bits) of the picture with this SHA-256.

    Made from the content, an id names the same picture in every state of a database,
    after a restored backup too, and never another. Two of a million pictures share
    one with a probability of 1 in 18 million; the catalog refuses the second.
    """
    return int(digest[:16], 16) >> 1


def decode(data: bytes, smallest_side: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """An upright RGB picture, and the (width, height) of the original, upright.

    With ``smallest_side``, a JPEG whose sides are far larger is decoded at a half, a
    quarter or an eighth, its sides at least ``smallest_side``: several times faster.
    Raises :class:`PictureError` with a reason a person understands.
    """
    if not data:
        raise PictureError("the file is empty.")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = picture.size
        if smallest_side:
            picture.draft("RGB", (smallest_side, smallest_side))
        if picture.size[0] * picture.size[1] > MAX_PIXELS:
            raise PictureError(
                f"the picture is {width:,} × {height:,} pixels; "
                f"{MAX_PIXELS // 10**6} million are the most that are decoded."
            )
        picture.load()
        turned = _upright(picture)
        if _swaps_sides(picture):
            width, height = height, width
        return _rgb(turned), (width, height)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"this is not a picture: {_what_it_is(data)}.") from None
    except Image.DecompressionBombError as error:
        raise PictureError(f"the picture is too large: {error}.") from None
    except MemoryError:
        raise PictureError("the picture needs more memory than there is.") from None
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = str(error) or type(error).__name__
        raise PictureError(f"the picture is damaged: {reason.rstrip('.')}.") from None


def prepare(data: bytes, geometry: Geometry, *, thumbnail: bool = True) -> Prepared:
    """Decode once, for a model and for a thumbnail."""
    wanted = max(geometry.size, THUMBNAIL_SIDE if thumbnail else 0)
    # Twice the size that is wanted leaves the final resize enough to average over.
    picture, (width, height) = decode(data, smallest_side=2 * wanted)
    small = make_thumbnail(picture) if thumbnail else None
    return Prepared(width, height, fit(picture, geometry), small)


def fit(picture: Image.Image, geometry: Geometry) -> np.ndarray:
    """``picture`` as a model's input: size × size × 3 uint8, resized bilinearly.

    Pillow's bilinear filter averages over all it covers, as torchvision's ``Resize``
    does on Pillow pictures: the results are the same to the bit.
    """
    square = (geometry.size, geometry.size)
    if geometry.resize == "squash":
        picture = picture.resize(square, Image.Resampling.BILINEAR)
    elif geometry.resize == "crop":
        picture = ImageOps.fit(picture, square, Image.Resampling.BILINEAR)
    else:
        picture = ImageOps.pad(picture, square, Image.Resampling.BILINEAR, color="white")
    return np.asarray(picture)


def make_thumbnail(picture: Image.Image) -> bytes:
    """A JPEG of at most 256 pixels a side."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return buffer.getvalue()


def read_header(path) -> tuple[str, int, int]:
    """(format, width, height) of a picture file as stored, without decoding it."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return picture.format.lower(), *picture.size
    except UnidentifiedImageError:
        raise PictureError("this is not a picture.") from None
    except Exception as error:
        raise PictureError(f"the picture is damaged: {error}.") from None


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF says nothing about orientation
        return 1


def _swaps_sides(picture: Image.Image) -> bool:
    return _orientation(picture) in (5, 6, 7, 8)


def _upright(picture: Image.Image) -> Image.Image:
    if _orientation(picture) in range(2, 9):
        try:
            return ImageOps.exif_transpose(picture)
        except Exception:  # the tag is right, what surrounds it cannot be rewritten
            return picture
    return picture


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        return _from_deep_grey(picture).convert("RGB")
    if picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("RGB")
    return picture.convert("RGB")


def _from_deep_grey(picture: Image.Image) -> Image.Image:
    """8-bit grey from 16-bit, 32-bit or float: by the format's range where it is known."""
    values = np.nan_to_num(np.asarray(picture, np.float64))
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if picture.mode != "F" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    elif picture.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = (values - low) * (255 / ((high - low) or 1))
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))


def _what_it_is(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    for mark, name in (
        (b"<svg", "an SVG drawing"),
        (b"<!doctype html", "an HTML page"),
        (b"<html", "an HTML page"),
        (b"<?xml", "an XML document"),
        (b"%pdf", "a PDF document"),
        (b"pk\x03\x04", "a zip archive"),
    ):
        if start.startswith(mark):
            return f"it looks like {name}"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "it looks like HEIC, which Pillow cannot read"
    return "no known format begins like this file"
