"""pictures: whatever a file is, it becomes the right upright RGB, or a plain refusal."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_pictures import encoded, is_plain, many_passes, odd_pictures, png, quarters
from PIL import ExifTags, Image, ImageFile

from datasette_image_search import pictures
from datasette_image_search.errors import PictureError, UsageError
from datasette_image_search.pictures import Geometry, decode, fit, jpeg2000, make_thumbnail, opening

HERE = Path(__file__).parent
ODD = odd_pictures()
SQUASH = Geometry(224)


def amid_quarters(picture: Image.Image) -> list[tuple[int, int, int]]:
    width, height = picture.size
    return [picture.getpixel((width * x // 4, height * y // 4)) for y in (1, 3) for x in (1, 3)]


def refusal(data: bytes, **options) -> str:
    with pytest.raises(PictureError) as caught:
        decode(data, **options)
    return str(caught.value)


# -- odd files ------------------------------------------------------------------------


def test_there_are_many_kinds_of_odd_pictures():
    assert len(ODD) >= 50
    assert len({odd.name for odd in ODD}) == len(ODD)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@pytest.mark.parametrize("odd", ODD, ids=str)
def test_an_odd_picture_is_decoded_rightly_or_refused_plainly(odd):
    if odd.refused:
        assert refusal(odd.data) == odd.refused
        assert is_plain(odd.refused)
        return
    picture, size = decode(odd.data)
    assert (picture.mode, picture.size, size) == ("RGB", odd.size, odd.size)
    found = np.array(amid_quarters(picture), int)
    assert np.abs(found - np.array(odd.colours)).max() <= odd.tolerance, found


@pytest.mark.parametrize(
    "start, kind",
    [
        (b"gimp xcf v011", "GIMP files"),
        (b"\xc5\xd0\xd3\xc6\x1e\0\0\0", "PostScript files (EPS)"),
        (b"II\xbc\x01", "JPEG XR pictures"),
        (b"v/1\x01\x02\0\0\0", "OpenEXR pictures"),
        (b"#?RADIANCE\n", "Radiance pictures"),
        (b"DDS \x7c\0\0\0", "DDS textures"),
        (b"qoif\0\0\0\x40", "QOI pictures"),
        (b"icns\0\0\x10\0", "Apple icons"),
        (b"AT&TFORM\0\0\x10\0DJVM", "DjVu documents"),
        (b"SIMPLE  =                    T", "FITS pictures"),
        (b"\xd7\xcd\xc6\x9a\0\0", "Windows metafiles"),
        (b"IIRS\x08\0\0\0", "camera raw files"),
        (b"MMOR\0\0\0\x08", "camera raw files"),
        (b"IIU\0\x18\0\0\0", "camera raw files"),
        (b"FOVb\0\0\x02\0", "camera raw files"),
        (b"\0MRM\0\x01\0\0", "camera raw files"),
    ],
)
def test_what_cannot_be_read_is_called_by_its_name(start, kind):
    """As the formats' own descriptions have their first bytes."""
    sentence = f"{kind} cannot be read here: save this one as JPEG or PNG."
    assert refusal(start + bytes(600)) == sentence


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@pytest.mark.parametrize("odd", [odd for odd in ODD if not odd.refused], ids=str)
def test_an_odd_picture_serves_a_model_and_a_page(odd, tmp_path):
    for resize in pictures.RESIZES:
        made = pictures.prepare(odd.data, Geometry(224, resize))
        assert (made.width, made.height) == odd.size
        assert (made.pixels.shape, made.pixels.dtype) == ((224, 224, 3), np.uint8)
    thumbnail = Image.open(io.BytesIO(made.thumbnail))
    assert thumbnail.format == "JPEG"
    assert max(thumbnail.size) <= 256
    # Nothing of the original's notes: they may be long, and say where somebody lives.
    assert set(thumbnail.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    (tmp_path / odd.name).write_bytes(odd.data)
    assert pictures.read_header(tmp_path / odd.name)[1:] == odd.size


@settings(max_examples=150, deadline=None)
@given(st.data())
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_damage_anywhere_is_decoded_or_refused_plainly(data):
    odd = data.draw(st.sampled_from([odd for odd in ODD if 0 < len(odd.data) < 100_000]))
    damaged = bytearray(odd.data)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(1, len(damaged)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "MAX_PIXELS", 10**6)
        try:
            picture, size = decode(bytes(damaged))
        except PictureError as error:
            assert is_plain(str(error)), error
        else:
            assert picture.mode == "RGB"
            assert picture.size == size


# -- limits ---------------------------------------------------------------------------


def in_a_process(code: str) -> list[str]:
    """What ``code`` prints; ``megabytes()`` is how far its memory has ever grown."""
    start = f"""
        import io, resource, sys, time, warnings
        warnings.simplefilter("ignore")
        sys.path.insert(0, {str(HERE)!r})
        from PIL import ExifTags, Image, ImageFile
        from odd_pictures import encoded, odd_pictures
        from datasette_image_search import pictures
        from datasette_image_search.errors import PictureError
        most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        Image.init()
        before = most()
        megabytes = lambda: round(most() - before)
    """
    script = textwrap.dedent(start) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured as Linux does")
def test_bombs_take_hardly_any_memory():
    (grown,) = in_a_process("""
        odd = odd_pictures()
        before = most()
        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
        for one in odd:
            try:
                pictures.prepare(one.data, pictures.Geometry(224))
            except PictureError as error:
                assert "memory" not in str(error), (one, error)
        print(megabytes())
    """)
    assert int(grown) < 250


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured as Linux does")
@pytest.mark.parametrize(
    "mode, colour, format, side, options",
    [
        ("RGBA", (9, 9, 9, 9), "PNG", 9400, {"compress_level": 1}),
        ("I;16", 9, "PNG", 9400, {"compress_level": 1}),
        ("F", 0.5, "TIFF", 9400, {"compression": "tiff_lzw"}),
        ("RGB", (9, 9, 9), "JPEG", 9400, {"progressive": True, "subsampling": 0}),
        ("RGBA", (9, 9, 9, 9), "JPEG2000", 6300, {}),
        ("RGB", (9, 9, 9), "WEBP", 6300, {"method": 0, "quality": 1}),
    ],
)
def test_the_largest_picture_stays_within_a_gigabyte(mode, colour, format, side, options, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(encoded(Image.new(mode, (side, side), colour), format, **options))
    grown, seconds = in_a_process(f"""
        data = open({str(path)!r}, "rb").read()
        start = time.process_time()
        made = pictures.prepare(data, pictures.Geometry(224))
        assert (made.width, made.height) == ({side}, {side})
        print(megabytes(), time.process_time() - start)
    """)
    assert int(grown) < 1024
    assert float(seconds) < 30  # one to three; thirty where the machine is very busy


def test_the_limit_is_exact(monkeypatch):
    monkeypatch.setattr(opening, "MAX_PIXELS", 48 * 32)
    assert decode(encoded(quarters(), "PNG"))[1] == (48, 32)
    large = encoded(quarters(size=(49, 32)), "PNG")
    assert refusal(large).startswith("the picture is 49 × 32 pixels; ")


def test_a_jpeg_beyond_the_limit_is_decoded_where_it_is_reduced():
    large = encoded(Image.new("L", (12_000, 9_000), 90), "JPEG")  # 108 megapixels, of a phone
    assert "12,000 × 9,000" in refusal(large)
    made = pictures.prepare(large, SQUASH)
    assert (made.width, made.height) == (12_000, 9_000)
    assert (made.pixels == 90).all()
    # A decoder that goes over a picture more than once must keep all of it.
    passes = encoded(Image.new("L", (12_000, 9_000), 90), "JPEG", progressive=True)
    assert "12,000 × 9,000" in refusal(passes, smallest_side=512)


def test_a_jpeg_2000_beyond_the_limit_is_decoded_where_it_is_halved():
    large = encoded(Image.new("RGB", (7_600, 5_601), (90, 80, 70)), "JPEG2000")
    assert "7,600 × 5,601" in refusal(large)
    made = pictures.prepare(large, SQUASH)
    assert (made.width, made.height) == (7_600, 5_601)
    assert (made.pixels == (90, 80, 70)).all()


def test_a_jpeg_2000_that_is_divided_too_finely_is_refused_before_it_is_decoded():
    """The decoder would have to note down more than it decodes."""

    def claiming(width, height, **options):
        # Only the head says so: to make a whole one takes 13 GB.
        small = encoded(Image.new("L", (64, 64), 90), "JPEG2000", no_jp2=True, **options)
        sides = struct.pack(">II", width, height)
        assert small[8:16] == small[24:32] == struct.pack(">II", 64, 64)  # its own, its tile's
        return small[:8] + sides + small[16:24] + sides + small[32:]

    fine = claiming(6_400, 6_300, codeblock_size=(4, 4))
    assert "6,400 × 6,300" in refusal(fine, smallest_side=256)
    assert decode(claiming(6_400, 6_300), smallest_side=256)[1] == (6_400, 6_300)


@pytest.mark.parametrize("width", range(1000, 1009))
@pytest.mark.parametrize("options", [{}, {"tile_size": (128, 96)}, {"irreversible": True}])
def test_a_jpeg_2000_of_any_size_is_halved(width, options, monkeypatch):
    """Pillow and its decoder round to different sizes."""
    monkeypatch.setattr(opening, "_COSTLY_MAX_PIXELS", 500_000)
    monkeypatch.setattr(jpeg2000, "_ENOUGH_PIXELS", 1)
    size = (width, 801)
    rough = gradient(8, 6).resize(size, Image.Resampling.BICUBIC)
    reduced, told = decode(encoded(rough, "JPEG2000", **options), smallest_side=100)
    assert told == size
    assert reduced.size == (-(-width // 8), 101)
    difference = np.abs(fit(reduced, SQUASH).astype(int) - fit(rough, SQUASH))
    assert difference.mean() < 3


def test_the_head_of_a_jpeg_2000_may_be_anything(monkeypatch):
    monkeypatch.setattr(jpeg2000, "_ENOUGH_PIXELS", 1)
    data = encoded(quarters(size=(640, 640)), "JPEG2000", num_resolutions=4)
    assert jpeg2000.halvings(data, (640, 640), 100) == 2
    assert jpeg2000.halvings(data, (640, 640), 10) == 3  # there are no more
    at = data.index(b"\xff\x52")
    for length in range(at + 12):
        assert jpeg2000.halvings(data[:length], (640, 640), 100) == 0
    for offset, value in ((4, 1), (9, 200), (10, 0), (11, 0), (3, 0), (1, 0x53)):
        odd = data[: at + offset] + bytes([value]) + data[at + offset + 1 :]
        assert jpeg2000.halvings(odd, (640, 640), 100) == 0, offset


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured as Linux does")
def test_a_jpeg_2000_that_says_it_is_large_stays_within_a_gigabyte(tmp_path):
    side = 14_000  # 196 million, of which its decoder notes down the parts
    small = bytearray(
        encoded(quarters("RGBA", (64, 64)), "JPEG2000", codeblock_size=(32, 32), num_resolutions=6)
    )
    box, code = small.index(b"ihdr") + 4, small.index(b"\xff\x4f\xff\x51") + 8
    for at in (box, code, code + 16):  # the picture, and its one tile
        small[at : at + 8] = side.to_bytes(4, "big") * 2
    (tmp_path / "large").write_bytes(small)
    said, grown = in_a_process(f"""
        def kilobytes(what):
            lines = open("/proc/self/status").read().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(what))

        data = open({str(tmp_path / "large")!r}, "rb").read()
        open("/proc/self/clear_refs", "w").write("5")  # the most there ever was: from now on
        before = kilobytes("VmRSS")
        try:
            pictures.prepare(data, pictures.Geometry(224))
        except PictureError as error:
            print("damaged" if "the picture is damaged" in str(error) else error)
        print((kilobytes("VmHWM") - before) // 2**10)
    """)
    assert said == "damaged" and 50 < int(grown) < 700


def mpo(first: Image.Image, **options) -> bytes:
    """Two JPEGs in one file, as phones write what they keep beside a photo."""
    second = Image.new("RGB", (40, 30), "red")
    return encoded(first, "MPO", save_all=True, append_images=[second], **options)


def test_a_jpeg_with_others_behind_it_is_decoded_as_one():
    data = mpo(quarters(size=(4000, 3000)))
    assert Image.open(io.BytesIO(data)).format == "MPO"
    reduced, told = decode(data, smallest_side=512)
    assert (reduced.size, told) == ((1000, 750), (4000, 3000))
    large = mpo(Image.new("L", (12_000, 9_000), 90))
    assert "12,000 × 9,000" in refusal(large)
    made = pictures.prepare(large, SQUASH)
    assert (made.width, made.height) == (12_000, 9_000)
    assert (made.pixels == 90).all()
    passes = mpo(Image.new("L", (12_000, 9_000), 90), progressive=True)
    assert "12,000 × 9,000" in refusal(passes, smallest_side=512)


def test_a_jpeg_whose_colours_come_one_after_the_other_is_not_held_to_be_small():
    data = encoded(quarters(), "JPEG", subsampling=0)
    at = data.index(b"\xff\xda")
    one = data[:at] + b"\xff\xda\0\x08\1" + data[at + 5 : at + 7] + data[at + 11 :]
    frame = one.index(b"\xff\xc0") + 5
    one = one[:frame] + (65_500).to_bytes(2, "big") * 2 + one[frame + 4 :]
    assert "65,500 × 65,500" in refusal(one, smallest_side=512)


def test_passes_are_limited_by_the_pixels_they_visit():
    assert decode(many_passes(48, 32, 5000))[1] == (48, 32)
    assert "in 5,010 passes; that would take too long" in refusal(many_passes(3000, 3000, 5000))


def test_the_process_is_left_as_it_was():
    """Not a filter, not a limit: others in the process use Pillow too."""
    out = in_a_process("""
        import warnings
        warnings.resetwarnings()
        filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
        import importlib
        from datasette_image_search.pictures import colours, opening
        for module in (colours, opening, pictures):
            importlib.reload(module)
        pictures.prepare(encoded(Image.new("RGB", (10, 10)), "PNG"), pictures.Geometry(224))
        print(warnings.filters == filters, Image.MAX_IMAGE_PIXELS == limit)
    """)
    assert out == ["True", "True"]


def test_no_warning_of_bombs_below_the_limit():
    """Pillow warns from 89.4 million pixels on, and we have refused before."""
    assert opening.MAX_PIXELS < Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refusal(png(9_434, 9_434))  # 89.0 million


# -- the models' view -----------------------------------------------------------------


def gradient(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("size", [(640, 480), (224, 224), (100, 37), (1, 900), (513, 227)])
@pytest.mark.parametrize("side", [224, 256])
def test_squash_is_torchvisions_resize_to_the_bit(size, side):
    transforms = pytest.importorskip("torchvision.transforms")
    picture = gradient(*size)
    theirs = np.asarray(transforms.Resize((side, side))(picture))
    assert (fit(picture, Geometry(side)) == theirs).all()


def test_crop_keeps_the_middle():
    made = fit(quarters(size=(400, 200)), Geometry(100, "crop"))
    assert (fit(quarters(size=(200, 200)), Geometry(100)) == made).all()


def test_pad_keeps_everything_on_white():
    made = fit(Image.new("RGB", (200, 100)), Geometry(100, "pad"))
    assert (made[:25] == 255).all()
    assert (made[25:75] == 0).all()
    assert (made[75:] == 255).all()
    assert (fit(Image.new("RGB", (1, 30_000)), Geometry(100, "pad")) == 0).any()


def test_a_resize_that_there_is_not_is_refused():
    with pytest.raises(UsageError, match=r"named 'stretch'; there are squash, crop, pad\.$"):
        Geometry(224, "stretch")
    assert str(Geometry(224, "pad")) == "pad 224"


@pytest.mark.parametrize(
    "size", [(4000, 3000), (3999, 3001), (700, 2600), (1025, 1025), (4000, 30)]
)
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_at_a_reduced_size_and_reported_at_its_own(
    size, orientation, progressive
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(quarters(size=size), "JPEG", exif=exif, progressive=progressive)
    whole, told = decode(data)
    assert whole.size == told == (size if orientation == 1 else size[::-1])
    reduced, told_again = decode(data, smallest_side=512)
    assert told_again == told
    scale = min(8, 2 ** int(math.log2(max(1, min(size) // 512))))
    assert reduced.size == tuple(math.ceil(side / scale) for side in told)
    difference = np.abs(fit(reduced, SQUASH).astype(int) - fit(whole, SQUASH))
    assert difference.mean() < 1


def test_a_large_photo_is_decoded_small_and_alike_with_and_without_a_thumbnail():
    rough = gradient(40, 30).resize((4000, 3000), Image.Resampling.BICUBIC)
    data = encoded(rough, "JPEG", quality=90)
    assert decode(data, pictures.wanted_side(SQUASH))[0].size == (500, 375)
    made = pictures.prepare(data, SQUASH)
    assert (made.pixels == pictures.prepare(data, SQUASH, thumbnail=False).pixels).all()
    assert np.abs(made.pixels.astype(int) - fit(decode(data)[0], SQUASH)).mean() < 1


@pytest.mark.parametrize(
    "side, half", [(64, (200, 175)), (160, (200, 175)), (175, (200, 175)), (176, (400, 350))]
)
def test_a_jpeg_is_decoded_no_larger_than_its_model_wants(side, half):
    data = encoded(quarters(size=(400, 350)), "JPEG")
    assert decode(data, pictures.wanted_side(Geometry(side)))[0].size == half
    thumbnail = pictures.prepare(data, Geometry(side)).thumbnail
    assert max(Image.open(io.BytesIO(thumbnail)).size) == min(256, half[0])


def test_a_thumbnail_fills_a_cell_of_the_page_however_small_the_models_pictures():
    for size in ((161, 161), (320, 320), (639, 641), (4000, 3000), (4000, 200)):
        data = encoded(quarters(size=size), "JPEG")
        thumbnail = pictures.prepare(data, Geometry(32)).thumbnail
        assert 160 <= max(Image.open(io.BytesIO(thumbnail)).size) <= 256, size


def test_the_same_picture_in_any_format_is_the_same_to_a_model():
    wanted = fit(quarters(), SQUASH)
    for format, options in (
        ("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("GIF", {}),
        ("WEBP", {"lossless": True}), ("JPEG2000", {}),
    ):  # fmt: skip
        made = pictures.prepare(encoded(quarters(), format, **options), SQUASH, thumbnail=False)
        assert (made.pixels == wanted).all(), format
        assert made.thumbnail is None


def test_strips_are_seamless(monkeypatch):
    """Deep and transparent pictures are converted in strips; nothing shows where they meet."""
    rng = np.random.default_rng(0)
    clear = Image.fromarray(rng.integers(0, 256, (61, 47, 4), np.uint8), "RGBA")
    deep = Image.fromarray(rng.integers(0, 65536, (61, 47), np.uint16))
    whole = [np.asarray(decode(encoded(picture, "PNG"))[0]) for picture in (clear, deep)]
    monkeypatch.setattr("datasette_image_search.pictures.colours._STRIP_PIXELS", 100)
    strips = [np.asarray(decode(encoded(picture, "PNG"))[0]) for picture in (clear, deep)]
    for one, other in zip(whole, strips):
        assert (one == other).all()
    paper = Image.new("RGBA", clear.size, "white")
    assert (whole[0] == np.asarray(Image.alpha_composite(paper, clear).convert("RGB"))).all()
    assert (whole[1][..., 0] == np.round(np.asarray(deep) / 257)).all()


# -- thumbnails, headers, names -------------------------------------------------------


def test_a_thumbnail_keeps_the_shape_and_small_pictures_their_size():
    for size, small in (
        ((1000, 500), (256, 128)), ((500, 1000), (128, 256)), ((48, 32), (48, 32)),
        ((1, 30_000), (1, 256)), ((256, 256), (256, 256)), ((257, 256), (256, 255)),
    ):  # fmt: skip
        assert Image.open(io.BytesIO(make_thumbnail(Image.new("RGB", size)))).size == small


def test_making_a_thumbnail_leaves_the_picture_alone():
    picture = quarters(size=(600, 400))
    make_thumbnail(picture)
    assert picture.size == (600, 400)


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd.refused], ids=str)
def test_a_header_is_read_or_refused_plainly(odd, tmp_path):
    path = tmp_path / odd.name
    path.write_bytes(odd.data)
    try:
        format, width, height = pictures.read_header(path)
    except PictureError as error:
        assert is_plain(str(error))
    else:  # broken further inside, or too large to be decoded: a header is there
        assert format.isalnum()
        assert width * height > 0


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_header_is_read_without_decoding(tmp_path, monkeypatch, format):
    """Pillow decodes a whole PNG for its EXIF: a bomb took 17 GB of the process that loads."""
    path, exif = tmp_path / "turned", Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    quarters(size=(60, 40)).save(path, format, exif=exif)
    plain = tmp_path / "plain"
    quarters(size=(60, 40)).save(plain, format)

    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda picture: decoded.append(picture))
    assert pictures.read_header(plain)[1:] == (60, 40)
    assert pictures.read_header(path)[1:] == (40, 60)
    assert decoded == []


def test_a_file_that_is_not_there_has_no_header(tmp_path):
    with pytest.raises(
        PictureError, match=r"^the file cannot be read: No such file or directory\.$"
    ):
        pictures.read_header(tmp_path / "nowhere.png")


def test_a_picture_is_known_by_its_bytes():
    digest = pictures.sha256(b"abc")
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert pictures.picture_id(digest) == 0xBA7816BF8F01CFEA >> 1
    assert 0 <= pictures.picture_id("f" * 64) < 2**63  # SQLite's and FAISS's integers
