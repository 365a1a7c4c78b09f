"""Opening a picture's file: which formats, how large, and why not."""

from __future__ import annotations

import importlib
import io
import math
from contextlib import suppress
from functools import cache
from typing import BinaryIO

from PIL import Image, ImageFile

from ..errors import PictureError
from .jpeg2000 import halve, halvings
from .kinds import RAW, as_text, cannot_be_read, is_of_a_camera, kind_of

# Only what people keep pictures in: each further decoder is a door. The names are those
# of Pillow's modules. JPEG stands for MPO too: Pillow opens both by the same door.
FORMATS = {
    "JPEG": "Jpeg", "PNG": "Png", "GIF": "Gif", "WEBP": "WebP", "TIFF": "Tiff",
    "BMP": "Bmp", "AVIF": "Avif", "JPEG2000": "Jpeg2K", "PPM": "Ppm", "ICO": "Ico",
}  # fmt: skip
# How many bytes of a file tell what it is.
START = 512
NEEDS_MEMORY = "the picture needs more memory than there is."
# As decoded: Pillow keeps RGB in 4 bytes a pixel, and warns of bombs from 89.4 million on.
MAX_PIXELS = 89_000_000
# These decoders hold several copies of a picture while they work.
_COSTLY_FORMATS, _COSTLY_MAX_PIXELS = ("WEBP", "JPEG2000"), 40_000_000
# Beyond, a JPEG 2000 is decoded at a half or less; up to here, as its decoder sets aside a
# little for each part of the whole.
_REDUCED_MAX_PIXELS = 200_000_000
# Each pass of a progressive JPEG visits every pixel, and may cost the file but a few bytes.
_MAX_PASSED_PIXELS = 100 * MAX_PIXELS


def open_picture(file: BinaryIO) -> ImageFile.ImageFile:
    """Like ``Image.open``, without its limit, which is a global of the process.

    Ours come in :func:`refuse_costly`, when it is known at which size a picture will be
    decoded: the large pictures of today's phones are harmless at an eighth.
    """
    _import_decoders()
    start = file.read(START)
    if not start:
        raise PictureError("the file is empty.")
    for format in FORMATS:
        opener, accepts = Image.OPEN.get(format, (None, None))
        if opener is None or accepts(start[:16].ljust(16, b"\0")) is not True:
            continue
        file.seek(0)
        try:
            return opener(file, "")
        except Exception as error:
            if kind_of(start) is None:  # HEIC may begin as AVIF does
                raise refusal(error, format, start, opened=False) from None
            break
    if kind := kind_of(start):
        raise PictureError(cannot_be_read(kind))
    raise PictureError(f"this is not a picture: {_what_it_is(start)}.")


@cache
def _import_decoders() -> None:
    for name in FORMATS.values():
        with suppress(ImportError):  # older versions of Pillow have no AVIF
            importlib.import_module(f"PIL.{name}ImagePlugin")


def only_one_thread() -> None:
    """Keep decoders from starting threads: others decode beside them."""
    with suppress(ImportError):
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def reduce(picture: ImageFile.ImageFile, smallest_side: int, data: bytes) -> tuple[int, int]:
    """Have a picture decoded smaller, its sides at least ``smallest_side``, where that is cheap.

    The size at which its decoder will hold it.
    """
    original = picture.size
    picture.draft("RGB", (smallest_side, smallest_side))
    if _is_decoded_row_by_row(picture, data):
        return picture.size
    if picture.format == "JPEG2000" and (
        _COSTLY_MAX_PIXELS < math.prod(original) <= _REDUCED_MAX_PIXELS
    ):
        # Smaller ones are decoded whole: what is between the halves is not lost on them.
        return halve(picture, halvings(data, original, smallest_side))
    return original


def refuse_costly(
    picture: ImageFile.ImageFile, original: tuple[int, int], held: tuple[int, int], data: bytes
) -> None:
    """Refuse what would take too much memory or time, before anything is decoded.

    ``original`` is the size of the whole, ``held`` that at which it will be decoded.
    """
    most = _COSTLY_MAX_PIXELS if picture.format in _COSTLY_FORMATS else MAX_PIXELS
    large = f"the picture is {original[0]:,} × {original[1]:,} pixels"
    if math.prod(held) > most:
        raise PictureError(f"{large}; {most / 10**6:g} million are the most that are decoded.")
    if "progressive" in picture.info:
        passes = data.count(b"\xff\xda")
        if passes * math.prod(original) > _MAX_PASSED_PIXELS:
            raise PictureError(f"{large} in {passes:,} passes; that would take too long to decode.")


def _is_decoded_row_by_row(picture: ImageFile.ImageFile, data: bytes) -> bool:
    """Is this a JPEG whose decoder never holds all of it at its full size?

    So it is where the first scan has all components, and is not refined by others.
    """
    if picture.format not in ("JPEG", "MPO") or "progressive" in picture.info:
        return False
    if picture.format == "MPO":  # Pillow has gone back to its start: it begins with a JPEG
        from PIL import JpegImagePlugin

        picture = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    scan = data[: picture.fp.tell()][-8 - 2 * picture.layers :]  # Pillow stops behind it
    return scan[:2] == b"\xff\xda" and scan[4] == picture.layers


def refusal(
    error: Exception, format: str, start: bytes = b"", *, opened: bool = True
) -> PictureError:
    """What a decoder raised, as a sentence: its own words are for programmers."""
    text = str(error).lower()
    if isinstance(error, MemoryError):
        return PictureError(NEEDS_MEMORY)
    if format == "TIFF" and is_of_a_camera(start):
        return PictureError(cannot_be_read(RAW))
    if isinstance(error, Image.DecompressionBombError):
        return PictureError(
            f"the picture has far more than {MAX_PIXELS / 10**6:g} million pixels, "
            "the most that are decoded."
        )
    if isinstance(error, NotImplementedError) or any(
        word in text for word in ("unsupported", "not supported", "unknown", "cannot handle")
    ):
        return PictureError(f"the picture is {_a(format)} of a kind that Pillow cannot read.")
    if "text chunk" in text or "max_text" in text:
        return PictureError(
            f"the picture is {_a(format)} with a text or a colour profile larger than is read."
        )
    if not opened:
        return PictureError(f"this begins like {_a(format)}, but cannot be read as one.")
    if isinstance(error, EOFError) or "truncated" in text or "end of file" in text:
        return PictureError(f"the picture is damaged: the {format} ends too early.")
    if "checksum" in text:
        return PictureError(f"the picture is damaged: the {format} has a wrong checksum.")
    return PictureError(f"the picture is damaged: the {format} cannot be decoded.")


def _a(format: str) -> str:
    """The format's name behind its article, as it is spoken: an AVIF, an MPO."""
    return f"{'an' if format[0] in 'AIM' else 'a'} {format}"


def _what_it_is(start: bytes) -> str:
    text = as_text(start)
    for mark, name in (
        (b"<!doctype html", "an HTML page"),
        (b"<html", "an HTML page"),
        (b"<?xml", "an XML document"),
        (b"pk\x03\x04", "a zip archive"),
    ):
        if text.startswith(mark):
            return f"it looks like {name}"
    return "no known format begins like this file"
