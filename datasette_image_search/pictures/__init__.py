"""From the bytes of a file to an upright RGB picture, a model's input, a thumbnail.

Every model sees the same: EXIF orientation applied, transparency laid on white,
grey, palette, 16-bit, float and CMYK turned into 8-bit RGB, the first frame of many.
Colour profiles are not applied, as the models' published recipes do not.

Nobody vouches for the files: each is decoded within about 1 GB of memory, or refused.
What is here runs in the process that calls it; :mod:`.decoders` has it run in others,
which a picture may crash or hang without harm.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import ExifTags, Image, ImageOps

from ..errors import PictureError, UsageError
from .colours import rgb, shorten_key
from .opening import START, open_picture, reduce, refusal, refuse_costly

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "RESIZES",
    "Geometry",
    "Prepared",
    "decode",
    "fit",
    "fitted",
    "make_thumbnail",
    "picture_id",
    "prepare",
    "read_header",
    "sha256",
    "wanted_side",
]

RESIZES = ("squash", "crop", "pad")
THUMBNAIL_SIDE = 256
# What a cell of the search page shows: a JPEG is not decoded larger for its thumbnail's sake.
LEAST_THUMBNAIL_SIDE = 160
THUMBNAIL_QUALITY = 80

# What brings a picture upright, by its EXIF orientation; the last four swap the sides.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
    after a restored backup too. Two of a million pictures share one with a probability
    of 1 in 18 million; the second is then taken for the first.
    """
    return int(digest[:16], 16) >> 1


def decode(data: bytes, smallest_side: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """An upright RGB picture, and the (width, height) of the original, upright.

    With ``smallest_side``, a JPEG whose sides are far larger is decoded at a half, a
    quarter or an eighth, its sides at least ``smallest_side``: several times faster. So is
    a JPEG 2000 that is too large to be decoded whole.
    Raises :class:`PictureError` with a reason a person understands.
    """
    picture = open_picture(io.BytesIO(data))
    format = picture.format
    try:
        size = held = picture.size
        if smallest_side:
            held = reduce(picture, smallest_side, data)
        refuse_costly(picture, size, held, data)
        shorten_key(picture)
        picture.load()
        orientation = _orientation(picture)
        picture = rgb(picture)
        if orientation in _TURNS:
            picture = picture.transpose(_TURNS[orientation])
        return picture, _upright(size, orientation)
    except PictureError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise refusal(error, format, data[:START]) from None


def prepare(data: bytes, geometry: Geometry, *, thumbnail: bool = True) -> Prepared:
    """Decode once, for a model and for a thumbnail."""
    picture, (width, height) = decode(data, wanted_side(geometry))
    small = make_thumbnail(picture) if thumbnail else None
    return Prepared(width, height, fit(picture, geometry), small)


def wanted_side(geometry: Geometry) -> int:
    """How small a picture's sides may be decoded for a model and a thumbnail.

    The same whether a thumbnail is made or not: a picture has one vector. What is lost
    is measured by ``python -m benchmarks.decoding``.
    """
    return max(geometry.size, LEAST_THUMBNAIL_SIDE)


def fit(picture: Image.Image, geometry: Geometry) -> np.ndarray:
    """``picture`` as a model's input: size × size × 3 uint8, resized bilinearly.

    Pillow's bilinear filter averages over all it covers, as torchvision's ``Resize``
    does on Pillow pictures: the results are the same to the bit.
    """
    import numpy as np  # not at the top: a decoder's process does without

    return np.asarray(fitted(picture, geometry))


def fitted(picture: Image.Image, geometry: Geometry) -> Image.Image:
    """As :func:`fit`, as a picture of size × size."""
    square = (geometry.size, geometry.size)
    if geometry.resize == "squash":
        return picture.resize(square, Image.Resampling.BILINEAR)
    if geometry.resize == "crop":
        return ImageOps.fit(picture, square, Image.Resampling.BILINEAR)
    inside = picture.resize(_within(picture.size, geometry.size), Image.Resampling.BILINEAR)
    whole = Image.new("RGB", square, "white")
    whole.paste(inside, tuple(round((geometry.size - side) * 0.5) for side in inside.size))
    return whole


def make_thumbnail(picture: Image.Image) -> bytes:
    """A JPEG of at most 256 pixels a side, with nothing of the original but its pixels.

    A picture that was decoded small, for a model with a small input, stays as it is.
    """
    small = picture
    if max(picture.size) > THUMBNAIL_SIDE:
        size = _within(picture.size, THUMBNAIL_SIDE)
        # nearly as crisp as bicubic in two thirds of its time
        small = picture.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)
    bare = Image.new("RGB", small.size)  # Pillow would copy a comment, however long
    bare.paste(small)
    buffer = io.BytesIO()
    bare.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


def read_header(path) -> tuple[str, int, int]:
    """(format, width, height) of a picture file, upright, without decoding it."""
    try:
        file = open(path, "rb")
    except OSError as error:
        raise PictureError(f"the file cannot be read: {error.strerror}.") from None
    with file, open_picture(file) as picture:
        size = picture.size
        if picture.format != "TIFF":  # Pillow turns a TIFF itself, and has told so already
            size = _upright(size, _orientation(picture))
        return picture.format.lower(), *size


def _orientation(picture: Image.Image) -> int:
    """As far as it has been read: a PNG that is decoded may tell of it behind its pixels."""
    try:
        # Not a PNG's own, which decodes all of it to look there: of a bomb gigabytes, in a
        # process that nothing watches over.
        return Image.Image.getexif(picture).get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF says nothing about orientation
        return 1


def _upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size[::-1] if orientation in (5, 6, 7, 8) else size


def _within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The largest size of the same shape in a square; a thin line keeps one pixel."""
    return tuple(max(1, round(length / max(size) * side)) for length in size)
