"""Files as they are found where pictures should be: odd, damaged, hostile.

``odd_pictures()`` gives each with what is to become of it: a size and colours, or the
sentence with which it is refused. Most show the same picture, four quarters in four
colours, so that one look at four pixels tells whether it is upright and rightly coloured.

Not here, because nothing at hand writes them: JPEGs of 12 bits (one header says so, with
no such data behind it), whole HEIC files, and TIFFs of float RGB.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import PIL
from PIL import Image, PngImagePlugin

WIDTH, HEIGHT = 48, 32
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 160, 60), (40, 60, 200), (255, 255, 255)
NOT_THIS = "this begins like {}, but cannot be read as one."
QUARTERS = (RED, GREEN, BLUE, WHITE)  # upper left, upper right, lower left, lower right


@dataclass(frozen=True)
class OddPicture:
    """A file called ``name``. Either it is ``refused`` with that sentence, or it has

    an upright ``size``, and these ``colours`` (give or take ``tolerance``) amid its quarters.
    """

    name: str
    data: bytes
    refused: str | None = None
    size: tuple[int, int] = (WIDTH, HEIGHT)
    colours: tuple[tuple[int, int, int], ...] = QUARTERS
    tolerance: int = 2

    def __str__(self) -> str:
        return self.name


@cache
def odd_pictures() -> tuple[OddPicture, ...]:
    return tuple(
        odd
        for kinds in (
            _no_pictures,
            _misnamed,
            _truncated,
            _damaged,
            _bombs,
            _shapes,
            _turned,
            _animated,
            _colours,
            _deep,
            _jpegs,
            _with_broken_notes,
        )
        for odd in kinds()
    )


def quarters(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """The picture that most of these files show."""
    width, height = size
    picture = Image.new("RGB", size, WHITE)
    picture.paste(RED, (0, 0, width // 2, height // 2))
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    return picture.convert(mode)


def encoded(picture: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


# -- files of a few bytes, made by hand -----------------------------------------------


def png(width, height, *, depth=8, colour=2, rows=None, before=(), after=()) -> bytes:
    """A PNG of these chunks; without ``rows``, of a header and nothing to decode."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows)) if rows else b""
    chunks = [(b"IHDR", header), *before, (b"IDAT", packed), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(*tags: tuple[int, int, int], data: bytes = b"") -> bytes:
    """A little-endian TIFF of (tag, type, value), then ``data`` at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, type, 1, value) for tag, type, value in tags)
    start = 8 + len(data)
    return (
        b"II*\0"
        + struct.pack("<I", start)
        + data
        + struct.pack("<H", len(tags))
        + entries
        + b"\0" * 4
    )


def webp_header(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def icon_of(inside: bytes, width: int, height: int) -> bytes:
    """An icon of one PNG, whatever its size, of which the table of contents says this."""
    entry = struct.pack("<BBBBHHII", width, height, 0, 0, 1, 32, len(inside), 22)
    return b"\0\0\1\0\1\0" + entry + inside


def resized_jpeg(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header tells of another size than its data have."""
    return _in_frame_header(data, 5, struct.pack(">HH", height, width))


def _in_frame_header(data: bytes, offset: int, new: bytes) -> bytes:
    at = next(at for mark in (b"\xff\xc0", b"\xff\xc2") if (at := data.find(mark)) > 0)
    return data[: at + offset] + new + data[at + offset + len(new) :]


# -- what is no picture at all --------------------------------------------------------


def _no_pictures() -> Iterator[OddPicture]:
    def no(name, data, looks="no known format begins like this file"):
        return OddPicture(name, data, f"this is not a picture: {looks}.")

    def other(name, data, kind):
        return OddPicture(name, data, f"{kind} cannot be read here: save this one as JPEG or PNG.")

    yield OddPicture("empty.jpg", b"", "the file is empty.")
    yield no("text.jpg", b"Not found\n")
    yield no("zeros.png", b"\0" * 1000)
    yield no("one-byte.ppm", b"P")
    yield no("page.jpg", b"\n\n<!DOCTYPE html><html></html>", "it looks like an HTML page")
    yield no("bare-page.jpg", b"<HTML><body>404", "it looks like an HTML page")
    xml = b'\xef\xbb\xbf<?xml version="1.0"?>\n'
    yield no("feed.jpg", xml + b"<rss/>", "it looks like an XML document")
    yield no("archive.jpg", _zip(), "it looks like a zip archive")
    for brands in ("heic mif1 heic", "heix mif1 heix", "heim", "heis", "mif1 mif1 heic", "mif1",
                   "msf1 hevc", "hevc msf1 hevc", "hevx", "hevm", "hevs"):  # fmt: skip
        name = f"phone-{brands.replace(' ', '-')}.heic"
        yield other(name, _of_brands(brands), "HEIC pictures")
    for name, data, kind in (
        ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG drawings"),
        ("drawing.png", xml + b"<svg/>", "SVG drawings"),
        ("paper.jpg", b"%PDF-1.7\n", "PDF documents"),
        ("layers.jpg", b"8BPS\0\1" + b"\0" * 40, "Photoshop files (PSD)"),
        ("print.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript files (EPS)"),
        ("bare.jxl", b"\xff\x0a" + b"\0" * 40, "JPEG XL pictures"),
        ("boxed.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 40, "JPEG XL pictures"),
        ("canon.cr3", _of_brands("crx isom").replace(b"crx", b"crx "), "camera raw files"),
        ("fuji.raf", b"FUJIFILMCCD-RAW 0201" + b"\0" * 40, "camera raw files"),
        ("olympus.orf", b"IIRO\x08\0\0\0" + b"\0" * 40, "camera raw files"),
        # Of TIFFs: Canon says so, DNG has its version, others a maker and pictures below.
        ("canon.cr2", b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 40, "camera raw files"),
        ("phone.dng", tiff((256, 4, 9), (50706, 1, 0x401)), "camera raw files"),
        ("nikon.nef", tiff((256, 4, 9), (271, 2, 0), (330, 4, 99)), "camera raw files"),
    ):
        yield other(name, data, kind)
    for brands in ("mif1 avif mif1", "avif mif1 heic", "msf1 avis"):
        name = f"hollow-{brands.replace(' ', '-')}.avif"
        yield OddPicture(name, _of_brands(brands), NOT_THIS.format("an AVIF"))
    yield no("phone.3gp", _of_brands("3gp4 isom"))
    for name, start, format in (
        ("cars.bmp", b"BMW builds cars, not pictures of them. ", "BMP"),
        ("name.pgm", b"P2P networks have no centre. ", "PPM"),
        ("magic-alone.png", b"\x89PNG\r\n\x1a\n", "PNG"),
        ("magic-alone.jpg", b"\xff\xd8\xff", "JPEG"),
        ("magic-alone.gif", b"GIF89a", "GIF"),
        ("magic-alone.tif", b"II*\0", "TIFF"),
        ("magic-alone.ico", b"\0\0\1\0", "ICO"),
        ("magic-alone.webp", b"RIFF\4\0\0\0WEBPVP8 ", "WEBP"),
        ("magic-alone.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
        ("magic-alone.avif", b"\0\0\0\x14ftypavif\0\0\0\0avif", "AVIF"),
    ):
        article = "an" if format in ("AVIF", "ICO") else "a"
        yield OddPicture(name, start, NOT_THIS.format(f"{article} {format}"))


def _of_brands(brands: str) -> bytes:
    """What a file begins with that HEIC, AVIF and videos have in common."""
    first, *others = brands.encode().split()
    box = b"ftyp" + first + b"\0\0\0\0" + b"".join(others)
    return struct.pack(">I", len(box) + 4) + box + b"\0" * 100


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("hello.txt", "hello")
    return buffer.getvalue()


def _misnamed() -> Iterator[OddPicture]:
    picture = quarters()
    yield OddPicture("png-called.jpg", encoded(picture, "PNG"))
    yield OddPicture("webp-called.gif", encoded(picture, "WEBP", lossless=True))
    yield OddPicture("png-called.html", encoded(picture, "PNG"))
    # A JPEG ends where it says; an archive is read from its end. This file is both.
    yield OddPicture("archive-too.jpg", _jpeg() + _zip(), tolerance=8)
    yield OddPicture("page-too.gif", encoded(picture, "GIF") + b"<script>alert(1)</script>")


# -- what once was one ----------------------------------------------------------------


def _jpeg(**options) -> bytes:
    return encoded(quarters(), "JPEG", quality=95, subsampling=0, **options)


def _truncated() -> Iterator[OddPicture]:
    def early(name, data, format):
        return OddPicture(name, data, f"the picture is damaged: the {format} ends too early.")

    # Noise, so that there are data to cut.
    noise = Image.effect_noise((96, 96), 80).convert("RGB")
    for format, extension in (("JPEG", "jpg"), ("PNG", "png"), ("GIF", "gif"), ("BMP", "bmp")):
        data = encoded(noise, format)
        yield early(f"half.{extension}", data[: len(data) // 2], format)
        yield early(f"nine-tenths.{extension}", data[: len(data) * 9 // 10], format)
    yield early(
        "half-progressive.jpg", (data := _jpeg(progressive=True))[: len(data) * 3 // 4], "JPEG"
    )
    yield early("half.ppm", encoded(noise, "PPM")[:9000], "PPM")
    yield early("half.tif", encoded(noise, "TIFF")[:9000], "TIFF")
    yield OddPicture("header-cut.jpg", encoded(noise, "JPEG")[:100], NOT_THIS.format("a JPEG"))
    yield OddPicture("header-cut.png", encoded(noise, "PNG")[:20], NOT_THIS.format("a PNG"))
    yield OddPicture("half.webp", encoded(noise, "WEBP")[:1000], NOT_THIS.format("a WEBP"))
    yield OddPicture("half.avif", encoded(noise, "AVIF")[:200], NOT_THIS.format("an AVIF"))


def _damaged() -> Iterator[OddPicture]:
    def damaged(name, data, reason):
        return OddPicture(name, data, f"the picture is damaged: the {reason}.")

    data = bytearray(encoded(quarters(), "PNG"))
    data[data.index(b"IDAT") + 8] ^= 0xFF
    yield damaged("flipped-bit.png", bytes(data), "PNG cannot be decoded")
    data = bytearray(encoded(quarters(), "TIFF", compression="tiff_lzw"))
    data[9:60] = b"\xff" * 51
    yield damaged("scrambled.tif", bytes(data), "TIFF cannot be decoded")
    yield damaged("nothing-inside.png", png(48, 32), "PNG ends too early")
    data = _jpeg()
    twelve = _in_frame_header(data, 4, b"\x0c")
    other = "the picture is a {} of a kind that Pillow cannot read."
    yield OddPicture("twelve-bits.jpg", twelve, other.format("JPEG"))
    yield damaged(
        "lossless.jpg", data.replace(b"\xff\xc0", b"\xff\xc3", 1), "JPEG cannot be decoded"
    )
    tags = [
        (256, 3, 4),
        (257, 3, 4),
        (258, 3, 7),
        (259, 3, 1),
        (262, 3, 2),
        (273, 4, 8),
        (277, 3, 9),
    ]
    yield OddPicture("nine-channels.tif", tiff(*tags, data=b"\0" * 999), NOT_THIS.format("a TIFF"))
    data = bytearray(encoded(quarters(), "BMP"))
    data[28:30] = b"\x40\0"
    yield OddPicture("sixty-four-bits.bmp", bytes(data), other.format("BMP"))


def _bombs() -> Iterator[OddPicture]:
    """A few bytes that tell of gigabytes."""

    def large(name, data, size="65,500 × 65,500", most="89"):
        sentence = f"the picture is {size} pixels; {most} million are the most that are decoded."
        return OddPicture(name, data, sentence)

    def vast(name, data):
        sentence = "the picture has far more than 89 million pixels, the most that are decoded."
        return OddPicture(name, data, sentence)

    side = 65500
    yield large("bomb.png", png(side, side))
    yield large(
        "bomb.gif",
        b"GIF89a" + struct.pack("<HH", side, side) + b"\0\0\0" + encoded(quarters(), "GIF")[-200:],
    )
    if PIL.__version__ >= "13":
        yield vast("bomb.webp", webp_header(side, side))
    else:  # its reader gives up before it tells the size
        refused = "this begins like a WEBP, but cannot be read as one."
        yield OddPicture("bomb.webp", webp_header(side, side), refused)
    tags = [
        (256, 4, side),
        (257, 4, side),
        (258, 3, 8),
        (259, 3, 5),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, side),
        (279, 4, 4),
    ]
    yield large("bomb.tif", tiff(*tags, data=b"\x80\0\0\0"))
    yield large(
        "bomb.bmp",
        b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield large("bomb.ppm", b"P6 65500 65500 255\n")
    yield large("bomb.jpg", resized_jpeg(_jpeg(progressive=True), side, side))
    yield large("bomb-high.png", png(1, 2**31 - 1), "1 × 2,147,483,647")
    data = encoded(quarters(), "WEBP", lossless=True)
    at = data.index(b"VP8L") + 9  # twice 14 bits: width and height, less one
    bits = int.from_bytes(data[at : at + 4], "little") >> 28 << 28 | 4999 << 14 | 8999
    data = data[:at] + bits.to_bytes(4, "little") + data[at + 4 :]
    yield large("large.webp", data, "9,000 × 5,000", "40")
    small = encoded(quarters(size=(64, 64)), "JPEG2000")
    at = small.index(b"ihdr") + 4
    code = small.index(b"\xff\x4f\xff\x51") + 8
    vast_jp2 = (
        small[:at]
        + struct.pack(">II", side, side)
        + small[at + 8 : code]
        + struct.pack(">II", side, side)
        + small[code + 8 :]
    )
    yield large("bomb.jp2", vast_jp2, most="40")
    # Tiles far larger than the picture: what they claim must not be set aside.
    tags = [
        (256, 4, 16),
        (257, 4, 16),
        (258, 3, 8),
        (259, 3, 5),
        (262, 3, 1),
        (277, 3, 1),
        (322, 4, side - 12),
        (323, 4, side - 12),
        (324, 4, 8),
        (325, 4, 4),
    ]
    yield OddPicture(
        "tile-bomb.tif",
        tiff(*tags, data=b"\x80\0\0\0"),
        "the picture is damaged: the TIFF cannot be decoded.",
    )
    # An icon whose one entry says 1 × 1 and holds a PNG that says otherwise.
    yield vast("bomb.ico", icon_of(png(side, side), 1, 1))
    text = "the picture is a PNG with a text or a colour profile larger than is read."
    packed = zlib.compress(b"\0" * 20_000_000, 9)
    row = [b"\0\0\0"]
    yield OddPicture(
        "text-bomb.png", png(1, 1, rows=row, before=[(b"zTXt", b"a\0\0" + packed)]), text
    )
    yield OddPicture(
        "utf-8-bomb.png", png(1, 1, rows=row, before=[(b"iTXt", b"a\0\1\0\0\0" + packed)]), text
    )
    yield OddPicture(
        "text-bomb-behind.png", png(1, 1, rows=row, after=[(b"zTXt", b"a\0\0" + packed)]), text
    )
    many = [(b"tEXt", b"a\0" + b"x" * 1_000_000)] * 70
    yield OddPicture("text-heap.png", png(1, 1, rows=row, before=many), text)
    yield OddPicture(
        "profile-bomb.png", png(1, 1, rows=row, before=[(b"iCCP", b"a\0\0" + packed)]), text
    )
    yield OddPicture(
        "passes.jpg",
        many_passes(9000, 9000, 200),
        "the picture is 9,000 × 9,000 pixels in 210 passes; that would take too long to decode.",
    )


def many_passes(width: int, height: int, passes: int) -> bytes:
    """A progressive JPEG that goes over its last bits again and again."""
    data = _jpeg(progressive=True)
    end = data.rindex(b"\xff\xd9")
    last = data.rindex(b"\xff\xda")
    data = data[:end] + data[last:end] * passes + data[end:]
    return resized_jpeg(data, width, height)


# -- what is a picture, but not a usual one -------------------------------------------


def _shapes() -> Iterator[OddPicture]:
    dot, black = Image.new("RGB", (1, 1), RED), (0, 0, 0)
    for format in ("PNG", "GIF", "BMP", "TIFF", "PPM"):
        yield OddPicture(
            f"dot.{format.lower()}", encoded(dot, format), size=(1, 1), colours=(RED,) * 4
        )
    dot = encoded(dot, "JPEG", quality=95)
    yield OddPicture("dot.jpg", dot, size=(1, 1), colours=(RED,) * 4, tolerance=8)
    for size in ((1, 30_000), (30_000, 1)):
        line = encoded(Image.new("RGB", size), "PNG")
        yield OddPicture(f"line-{size[0]}-{size[1]}.png", line, size=size, colours=(black,) * 4)
    line = encoded(Image.new("RGB", (1, 65_500)), "JPEG")
    yield OddPicture("line.jpg", line, size=(1, 65_500), colours=(black,) * 4)
    icon = encoded(quarters(size=(48, 48)), "ICO", sizes=[(16, 16), (48, 48)])
    yield OddPicture("icon.ico", icon, size=(48, 48), tolerance=60)
    inside = encoded(quarters(), "PNG")  # where the table of contents says 16 × 16
    yield OddPicture("lying.ico", icon_of(inside, 16, 16))
    large = encoded(quarters(size=(1600, 1200)), "JPEG", quality=90)
    yield OddPicture("large.jpg", large, size=(1600, 1200), tolerance=8)


def _turned() -> Iterator[OddPicture]:
    """All that EXIF knows of orientation: each is to come out as if never turned."""
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for orientation, turn in back.items():
        picture = quarters() if turn is None else quarters().transpose(turn)
        exif = Image.Exif()
        exif[0x0112] = orientation
        for format in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF"):
            if format != "JPEG" and orientation not in (3, 6):
                continue
            options = {
                "JPEG": {"quality": 95, "subsampling": 0},
                "WEBP": {"lossless": True},
                "AVIF": {"quality": 95},
            }
            data = encoded(picture, format, exif=exif, **options.get(format, {}))
            yield OddPicture(f"orientation-{orientation}.{format.lower()}", data, tolerance=12)
    exif = Image.Exif()
    exif[0x0112] = 9
    yield OddPicture("orientation-9.jpg", _jpeg(exif=exif), tolerance=8)


def _animated() -> Iterator[OddPicture]:
    second = Image.new("RGB", (WIDTH, HEIGHT))
    for format, options in (
        ("GIF", {}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("MPO", {"quality": 95}),
    ):
        data = encoded(quarters(), format, save_all=True, append_images=[second], **options)
        yield OddPicture(
            f"two-frames.{format.lower()}", data, tolerance=20 if format == "MPO" else 2
        )
    data = encoded(quarters(), "AVIF", save_all=True, append_images=[second], quality=95)
    yield OddPicture("two-frames.avif", data, tolerance=12)
    # A frame in the middle, of half the size; around it is the first colour of the palette.
    middle = encoded(quarters().crop((12, 8, 36, 24)), "GIF")
    at = middle.index(b",", 13 + 3 * 2 ** ((middle[10] & 7) + 1)) + 1
    place = struct.pack("<HH", 12, 8)
    data = middle[:6] + struct.pack("<HH", WIDTH, HEIGHT) + middle[10:at] + place + middle[at + 4 :]
    yield OddPicture("middle.gif", data, colours=(RED, *(tuple(middle[13:16]),) * 3))


def _colours() -> Iterator[OddPicture]:
    greys = tuple(
        (quarters("L").getpixel(at),) * 3 for at in ((12, 8), (36, 8), (12, 24), (36, 24))
    )
    yield OddPicture(
        "grey.jpg", encoded(quarters("L"), "JPEG", quality=95), colours=greys, tolerance=8
    )
    yield OddPicture("grey.png", encoded(quarters("L"), "PNG"), colours=greys)
    yield OddPicture("palette.png", encoded(quarters("P"), "PNG"), tolerance=40)
    bits = Image.new("1", (WIDTH, HEIGHT))
    bits.paste(1, (24, 0, 48, 32))
    black_white = ((0, 0, 0), WHITE) * 2
    yield OddPicture("one-bit.png", encoded(bits, "PNG"), colours=black_white)
    yield OddPicture("fax.tif", encoded(bits, "TIFF", compression="group4"), colours=black_white)
    # Transparent where green was: paper shines through.
    clear = quarters("RGBA")
    clear.paste((0, 0, 0, 0), (24, 0, 48, 16))
    on_paper = (RED, WHITE, BLUE, WHITE)
    for format, options in (
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("GIF", {}),
    ):
        yield OddPicture(
            f"transparent.{format.lower()}", encoded(clear, format, **options), colours=on_paper
        )
    half = Image.new("RGBA", (WIDTH, HEIGHT), (255, 0, 0, 128))
    yield OddPicture("half-transparent.png", encoded(half, "PNG"), colours=((255, 127, 127),) * 4)
    palette = quarters().quantize(4)
    index = palette.getpixel((36, 8))
    yield OddPicture(
        "palette-transparent.png", encoded(palette, "PNG", transparency=index), colours=on_paper
    )
    yield OddPicture(
        "colour-key.png", encoded(quarters(), "PNG", transparency=GREEN), colours=on_paper
    )
    grey_alpha = Image.new("LA", (WIDTH, HEIGHT), (0, 255))
    grey_alpha.paste((0, 0), (24, 0, 48, 32))
    yield OddPicture("grey-alpha.png", encoded(grey_alpha, "PNG"), colours=black_white)
    ink = quarters("CMYK")
    yield OddPicture("cmyk.jpg", encoded(ink, "JPEG", quality=95), tolerance=8)
    yield OddPicture("cmyk.tif", encoded(ink, "TIFF"))
    yield OddPicture("ycck.jpg", _ycck(ink), tolerance=10)


def _ycck(ink: Image.Image) -> bytes:
    """CMYK as Adobe's programs write it: the colours as luma and chroma, beside black."""
    *colours, black = ink.split()
    luma = Image.merge("RGB", colours).convert("YCbCr")
    # Pillow inverts all four when it writes; luma and chroma are not to be inverted.
    upside_down = [channel.point(lambda value: 255 - value) for channel in luma.split()]
    data = encoded(Image.merge("CMYK", [*upside_down, black]), "JPEG", quality=95)
    at = data.index(b"Adobe") + 11  # the kind of colours: 0 is CMYK, 2 is YCCK
    return data[:at] + b"\2" + data[at + 1 :]


def _deep() -> Iterator[OddPicture]:
    """Greys of more than eight bits: black, a third, two thirds, white."""
    ramp = np.zeros((HEIGHT, WIDTH), np.float64)
    ramp[:16, 24:], ramp[16:, :24], ramp[16:, 24:] = 1 / 3, 2 / 3, 1
    greys = tuple((value,) * 3 for value in (0, 85, 170, 255))
    deep = Image.fromarray((ramp * 65535).astype(np.uint16))
    yield OddPicture("sixteen-bits.png", encoded(deep, "PNG"), colours=greys)
    yield OddPicture("sixteen-bits.tif", encoded(deep, "TIFF"), colours=greys)
    big = (ramp * 65535).astype(">u2")
    yield OddPicture("sixteen-bits.pgm", b"P5 48 32 65535\n" + big.tobytes(), colours=greys)
    rows = [row.tobytes() for row in big]
    key = [(b"tRNS", struct.pack(">H", 21845))]
    clear = (greys[0], WHITE, greys[2], WHITE)
    yield OddPicture(
        "sixteen-bits-key.png",
        png(48, 32, depth=16, colour=0, rows=rows, before=key),
        colours=clear,
    )
    rows = [np.repeat(row[:, None], 3, axis=1).tobytes() for row in big]
    yield OddPicture(
        "forty-eight-bits.png", png(48, 32, depth=16, colour=2, rows=rows), colours=greys
    )
    key = [(b"tRNS", struct.pack(">HHH", 21845, 21845, 21845))]
    yield OddPicture(
        "forty-eight-bits-key.png",
        png(48, 32, depth=16, colour=2, rows=rows, before=key),
        colours=clear,
    )
    # Its low bytes are zero, as black's are.
    big = ((ramp * 255).astype(int) << 8).astype(">u2")
    rows = [np.repeat(row[:, None], 3, axis=1).tobytes() for row in big]
    key = [(b"tRNS", struct.pack(">HHH", 85 << 8, 85 << 8, 85 << 8))]
    yield OddPicture(
        "forty-eight-bits-high-key.png",
        png(48, 32, depth=16, colour=2, rows=rows, before=key),
        colours=clear,
    )
    for name, values in (("unit", ramp), ("wide", ramp * 900 - 300)):
        data = encoded(Image.fromarray(values.astype(np.float32)), "TIFF")
        yield OddPicture(f"float-{name}.tif", data, colours=greys)
    holes = (ramp * 900).astype(np.float32)
    holes[:4, :4], holes[:4, 4:8], holes[4:8, :4] = np.nan, np.inf, -np.inf
    yield OddPicture("float-holes.tif", encoded(Image.fromarray(holes), "TIFF"), colours=greys)
    nothing = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    yield OddPicture(
        "float-nothing.tif", encoded(Image.fromarray(nothing), "TIFF"), colours=(greys[0],) * 4
    )
    wide = Image.fromarray((ramp * 2_000_000).astype(np.int32))
    yield OddPicture("thirty-two-bits.tif", encoded(wide, "TIFF"), colours=greys)
    unsigned = (ramp * (2**32 - 1)).astype("<u4").tobytes()
    for name, more in (("said", [(339, 3, 1)]), ("unsaid", [])):
        data = _grey_tiff(unsigned, 32, *more)
        yield OddPicture(f"thirty-two-bits-unsigned-{name}.tif", data, colours=greys)
    pairs = (ramp * 4095).astype(int).reshape(-1, 2)
    twelve = b"".join((one << 12 | other).to_bytes(3, "big") for one, other in pairs.tolist())
    yield OddPicture("twelve-bits.tif", _grey_tiff(twelve, 12), colours=greys)
    for name, kind, data in (
        ("sixteen-bits", 1, (ramp * 65535).astype("<u2")),
        ("float", 3, ramp.astype("<f4")),
    ):
        data = _grey_tiff(data.tobytes(), data.itemsize * 8, (339, 3, kind), photometric=0)
        yield OddPicture(f"{name}-white-is-zero.tif", data, colours=greys[::-1])


def _grey_tiff(data: bytes, bits: int, *more: tuple[int, int, int], photometric=1) -> bytes:
    tags = [
        (256, 3, WIDTH),
        (257, 3, HEIGHT),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, HEIGHT),
        (279, 4, len(data)),
    ]
    return tiff(*tags, *more, data=data)


def _jpegs() -> Iterator[OddPicture]:
    yield OddPicture("progressive.jpg", _jpeg(progressive=True), tolerance=8)
    yield OddPicture("restarts.jpg", _jpeg(restart_marker_blocks=1), tolerance=8)
    yield OddPicture("many-passes.jpg", many_passes(WIDTH, HEIGHT, 200), tolerance=8)
    yield OddPicture("rgb.jpg", _jpeg(keep_rgb=True), tolerance=8)
    yield _arithmetic_jpeg()
    # Its scan is missing; a decoder makes grey of it, and says nothing.
    header, start, _ = _jpeg().partition(b"\xff\xda")
    hollow = header + start + b"\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0\xff\xd9"
    yield OddPicture("hollow.jpg", hollow, colours=((128, 128, 128),) * 4)
    yield OddPicture("plain.jp2", encoded(quarters(), "JPEG2000"))
    yield OddPicture("plain.avif", encoded(quarters(), "AVIF", quality=95), tolerance=12)


def _arithmetic_jpeg() -> OddPicture:
    """Four blocks of 8 × 8, each of one grey, coded as hardly anybody does."""
    segments = (
        (0xDB, b"\0" + b"\1" * 64),  # quantised by 1: the greys are exact
        (0xC9, struct.pack(">BHHB", 8, 16, 16, 1) + b"\1\x11\0"),
        (0xDA, b"\1\1\0\0\x3f\0"),
    )
    data = b"\xff\xd8" + b"".join(
        struct.pack(">BBH", 255, mark, len(content) + 2) + content for mark, content in segments
    )
    data += bytes.fromhex("ff00fa4a2b2425db36c0") + b"\xff\xd9"
    greys = tuple((grey,) * 3 for grey in (20, 90, 160, 255))
    return OddPicture("arithmetic.jpg", data, size=(16, 16), colours=greys, tolerance=0)


def _with_broken_notes() -> Iterator[OddPicture]:
    """What surrounds the pixels is broken; the pixels are not."""
    for name, exif in (
        ("garbage", b"Exif\0\0" + b"\xde\xad\xbe\xef" * 9),
        ("cut", b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01\x03"),
        ("loop", b"Exif\0\0II*\0\x08\0\0\0\0\0\x08\0\0\0"),
        ("text", b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\1\0\0\0six\0\0\0\0\0"),
        ("rational", b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\5\0\1\0\0\0\xff\xff\xff\xff\0\0\0\0"),
    ):
        yield OddPicture(f"exif-{name}.jpg", _jpeg(exif=exif), tolerance=8)
    turned = encoded(
        quarters().transpose(Image.Transpose.ROTATE_90),
        "JPEG",
        quality=95,
        subsampling=0,
        # Orientation 6, and then a tag of a thousand numbers that are not there.
        exif=b"Exif\0\0II*\0\x08\0\0\0\2\0\x12\1\3\0\1\0\0\0\6\0\0\0\x0f\1\4\0\xe8\3\0\0\xff\xff\0\0\0\0\0\0",
    )
    yield OddPicture("exif-turned-and-broken.jpg", turned, tolerance=8)
    profile = b"no colour profile at all" * 9
    yield OddPicture("profile-broken.jpg", _jpeg(icc_profile=profile), tolerance=8)
    yield OddPicture("profile-broken.png", encoded(quarters(), "PNG", icc_profile=profile))
    comment = encoded(quarters(), "GIF", comment=b"x" * 200_000)
    yield OddPicture("comment-long.gif", comment)
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "\0\r\n<script>")
    yield OddPicture("text-script.png", encoded(quarters(), "PNG", pnginfo=info))
    data = _jpeg()
    yield OddPicture("noise-behind.jpg", data + b"\xff\xd8\xff\xe0" * 500, tolerance=8)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>' + b"9" * 5000
    yield OddPicture("xmp-broken.jpg", _jpeg(xmp=xmp), tolerance=8)


def is_plain(sentence: str) -> bool:
    """Is this one sentence for people, with nothing of Python's in it?"""
    of_python = re.search(r"<_io|\bat 0x|\w(Error|Exception)\b|Errno|_ssl|\w\(\)|None\b", sentence)
    one = sentence.endswith(".") and not sentence.endswith("..") and len(sentence) < 700
    return (
        one and sentence.isprintable() and not of_python and not re.search(r"[.!?] [A-Z]", sentence)
    )
