"""Pictures that people have and nothing here can read: what they are, and what to do about it.

They are told by how their names end, or by how their files begin; :mod:`.opening` says which
can be read.
"""

from __future__ import annotations

HEIC, RAW, SVG, PDF = "HEIC pictures", "camera raw files", "SVG drawings", "PDF documents"
JPEG_XL, JPEG_XR, PHOTOSHOP = "JPEG XL pictures", "JPEG XR pictures", "Photoshop files (PSD)"
GIMP, POSTSCRIPT, EXR = "GIMP files", "PostScript files (EPS)", "OpenEXR pictures"
DDS, QOI, ICNS, DJVU = "DDS textures", "QOI pictures", "Apple icons", "DjVu documents"
HDR, FITS, METAFILES = "Radiance pictures", "FITS pictures", "Windows metafiles"

# fmt: off
_ENDINGS = {
    HEIC: ".heic .heics .heif .heifs .hif",
    RAW: ".3fr .ari .arw .bay .cr2 .cr3 .crw .dcr .dcs .dng .erf .fff .gpr .iiq .k25 .kdc "
         ".mdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .rwz .sr2 .srf .srw .x3f",
    SVG: ".svg .svgz",
    PDF: ".pdf",
    JPEG_XL: ".jxl",
    JPEG_XR: ".jxr .hdp .wdp",
    PHOTOSHOP: ".psd .psb",
    GIMP: ".xcf",
    POSTSCRIPT: ".eps .epsf .ps .ai",
    EXR: ".exr",
    HDR: ".hdr",
    DDS: ".dds",
    QOI: ".qoi",
    ICNS: ".icns",
    DJVU: ".djvu .djv",
    FITS: ".fits .fts",
    METAFILES: ".emf .wmf",
    "TGA pictures": ".tga",
    "PCX pictures": ".pcx",
    "SGI pictures": ".sgi",
    "X pictures": ".xbm .xpm",
    "BPG pictures": ".bpg",
    "Krita files": ".kra",
}
# fmt: on
BY_ENDING = {ending: kind for kind, endings in _ENDINGS.items() for ending in endings.split()}

_BEGINNINGS = (
    (b"8BPS", PHOTOSHOP),
    (b"gimp xcf", GIMP),
    (b"%!PS", POSTSCRIPT),
    (b"\xc5\xd0\xd3\xc6", POSTSCRIPT),  # an EPS that begins with its table of contents
    (b"\0\0\0\x0cJXL \r\n\x87\n", JPEG_XL),
    (b"\xff\x0a", JPEG_XL),
    (b"II\xbc", JPEG_XR),
    (b"v/1\x01", EXR),
    (b"#?RADIANCE", HDR),
    (b"DDS ", DDS),
    (b"qoif", QOI),
    (b"icns", ICNS),
    (b"AT&TFORM", DJVU),
    (b"SIMPLE  =", FITS),
    (b"\xd7\xcd\xc6\x9a", METAFILES),
    (b"FUJIFILMCCD-RAW", RAW),
    (b"IIRO", RAW),  # these four of Olympus, then Panasonic, Sigma, Minolta
    (b"IIRS", RAW),
    (b"MMOR", RAW),
    (b"IIU\0", RAW),
    (b"FOVb", RAW),
    (b"\0MRM", RAW),
)
# What a file of HEIC's container (HEIF) calls itself: as the standard has it, where the coding
# is HEVC; and where it may be any, which is AVIF where that is named beside it.
_HEIC_BRANDS = frozenset(
    [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"]
)
_AVIF_BRANDS = frozenset([b"avif", b"avis"])
_CANON_BRAND = b"crx "
# What a camera's TIFF has that a scanner's has not: DNG's version; or a maker, and pictures
# below the first one. Each as the number and the type of its tag, in both orders of bytes.
_DNG = (b"\x12\xc6\x01\0", b"\xc6\x12\0\x01")
_MAKER = (b"\x0f\x01\x02\0", b"\x01\x0f\0\x02")
_BELOW = (b"\x4a\x01\x04\0", b"\x01\x4a\0\x04")


def cannot_be_read(kind: str) -> str:
    """The sentence for one that is of this kind."""
    return f"{kind} cannot be read here: save this one as JPEG or PNG."


KINDS = {cannot_be_read(kind): kind for kind in _ENDINGS}


def as_text(start: bytes) -> bytes:
    """How a file begins whose first words say what it is: without what may stand before them."""
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()


def kind_of(start: bytes) -> str | None:
    """What a file is that begins like this, if it is of a kind that cannot be read."""
    text = as_text(start)
    if b"<svg" in text:
        return SVG
    if text.startswith(b"%pdf"):
        return PDF
    for beginning, kind in _BEGINNINGS:
        if start.startswith(beginning):
            return kind
    brands = _brands(start)
    if _CANON_BRAND in brands:
        return RAW
    if not brands.isdisjoint(_HEIC_BRANDS) and brands.isdisjoint(_AVIF_BRANDS):
        return HEIC
    return None


def _brands(start: bytes) -> set[bytes]:
    """What a file of HEIC's, AVIF's and the videos' container says is inside."""
    if start[4:8] != b"ftyp":
        return set()
    end = int.from_bytes(start[:4], "big")
    return {start[at : at + 4] for at in (8, *range(16, min(end, len(start)), 4))}


def is_of_a_camera(start: bytes) -> bool:
    """Is this TIFF a camera's raw file? Many a one is read all the same, its small preview."""
    if start[:4] not in (b"II*\0", b"MM\0*"):
        return False
    order = int(start[:2] == b"MM")
    has_maker = _MAKER[order] in start and _BELOW[order] in start
    return start[8:10] == b"CR" or _DNG[order] in start or has_maker
