"""How surfaces answer light, and in which colours they come."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .patterns import TILE, cloud, dice, grid, step

# The shop's paint box: muted, warm, made to stand side by side.
COLOURS = {
    "white": "#f1eee8",
    "ivory": "#ece1cb",
    "sand": "#d2b995",
    "blush": "#e2b3a4",
    "terracotta": "#b9603f",
    "poppy": "#bf3a30",
    "mustard": "#d39b2e",
    "olive": "#797b41",
    "sage": "#a3b396",
    "forest": "#2f5544",
    "teal": "#2b7478",
    "sky": "#9cbdd0",
    "denim": "#4e6f96",
    "navy": "#25324f",
    "plum": "#6d3a55",
    "lilac": "#b5a3c6",
    "brown": "#6b452f",
    "grey": "#97948f",
    "charcoal": "#3a3a3d",
    "black": "#1d1c1e",
    # Not for sale as colours, but needed to build things:
    "oak": "#c79c68",
    "walnut": "#7b5236",
    "steel": "#c9cacb",
    "brass": "#d8ae62",
    "copper": "#d08a66",
    "rubber": "#e9e6df",
    "soil": "#3b2c22",
    "leaf": "#4c7a3f",
    "wax": "#f2e8d2",
    "linen": "#efe6d6",
    "glow": "#ffe2b0",
    "flame": "#ffc56a",
}


@cache
def colour(name: str) -> np.ndarray:
    """Linear light for a colour name or a ``#rrggbb``."""
    text = COLOURS.get(name, name).lstrip("#")
    srgb = np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def mix(a: str, b: str, share: float) -> str:
    """A colour between two others, as ``#rrggbb``; ``share`` is b's part."""
    light = colour(a) * (1 - share) + colour(b) * share
    srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * c):02x}" for c in np.clip(srgb, 0, 1))


@dataclass(frozen=True)
class Material:
    """Optical properties; ``relief`` names a height tile from RELIEFS."""

    gloss: float = 0.04  # share of light reflected head-on
    rough: float = 0.1  # 0 a mirror, 1 chalk
    metal: bool = False
    wrap: float = 0.12  # how far light creeps around the form
    sheen: float = 0.0  # the bright fuzz on cloth edges
    relief: str = ""
    bump: float = 0.0
    mottle: float = 0.0  # how much the relief darkens the colour
    repeat: float = 0.5  # relief tile size, as a share of the product's size


MATERIALS = {
    "ceramic": Material(gloss=0.05, rough=0.05, relief="clay", bump=0.10, repeat=1.0),
    "stoneware": Material(gloss=0.035, rough=0.42, relief="clay", bump=0.38, mottle=0.10),
    "porcelain": Material(gloss=0.06, rough=0.02, wrap=0.2),
    "enamel": Material(gloss=0.07, rough=0.08),
    "earthenware": Material(gloss=0.02, rough=0.9, relief="clay", bump=0.5, mottle=0.16),
    "glass": Material(gloss=0.10, rough=0.02, wrap=0.5),
    "cotton": Material(gloss=0.0, rough=1, wrap=0.28, sheen=0.10, relief="weave", bump=0.35,
                       mottle=0.14, repeat=0.22),
    "linen": Material(gloss=0.0, rough=1, wrap=0.28, sheen=0.08, relief="slub", bump=0.6,
                      mottle=0.24, repeat=0.3),
    "canvas": Material(gloss=0.01, rough=0.9, wrap=0.2, sheen=0.05, relief="weave", bump=0.75,
                       mottle=0.22, repeat=0.26),
    "velvet": Material(gloss=0.0, rough=1, wrap=0.05, sheen=0.75, relief="felt", bump=0.25,
                       mottle=0.10),
    "wool": Material(gloss=0.0, rough=1, wrap=0.35, sheen=0.22, relief="knit", bump=1.5,
                     mottle=0.34, repeat=0.34),
    "felt": Material(gloss=0.0, rough=1, wrap=0.35, sheen=0.25, relief="felt", bump=0.9,
                     mottle=0.22),
    "plush": Material(gloss=0.0, rough=1, wrap=0.45, sheen=0.5, relief="fur", bump=1.7,
                      mottle=0.4, repeat=0.28),
    "leather": Material(gloss=0.035, rough=0.38, relief="leather", bump=0.75, mottle=0.12,
                        repeat=0.3),
    "suede": Material(gloss=0.005, rough=1, wrap=0.2, sheen=0.3, relief="felt", bump=0.4,
                      mottle=0.16),
    "nylon": Material(gloss=0.03, rough=0.55, sheen=0.05, relief="weave", bump=0.3,
                      mottle=0.10, repeat=0.16),
    "rubber": Material(gloss=0.03, rough=0.6, wrap=0.15, relief="clay", bump=0.15),
    "plastic": Material(gloss=0.045, rough=0.16),
    "wood": Material(gloss=0.03, rough=0.45, relief="wood", bump=0.15, mottle=0.42, repeat=0.8),
    "steel": Material(gloss=0.62, rough=0.22, metal=True, relief="brushed", bump=0.12,
                      mottle=0.06, repeat=0.6),
    "polished": Material(gloss=0.75, rough=0.04, metal=True),
    "painted metal": Material(gloss=0.045, rough=0.3, relief="clay", bump=0.05),
    "wicker": Material(gloss=0.02, rough=0.6, relief="wicker", bump=2.6, mottle=0.62,
                       repeat=0.30),
    "paper": Material(gloss=0.01, rough=1, wrap=0.3, relief="felt", bump=0.15, mottle=0.05),
    "leaf": Material(gloss=0.04, rough=0.32, wrap=0.4, relief="clay", bump=0.2, mottle=0.25),
    "wax": Material(gloss=0.03, rough=0.4, wrap=0.6),
    "soil": Material(gloss=0.0, rough=1, relief="fur", bump=3.0, mottle=0.7, repeat=0.3),
}  # fmt: skip


@dataclass(frozen=True)
class Skin:
    """What a patch wears: a material, up to three colours and a pattern."""

    material: str
    colours: tuple[str, ...]
    pattern: str = "plain"
    repeat: float = 6.0  # pattern tile size in centimetres
    dip: float = 0.45  # where two-tone changes, as a share of the height
    glow: float = 0.0  # light of its own


# --- reliefs: height tiles between 0 and 1 -----------------------------------


def weave():
    """Plain weave: warp and weft take turns on top."""
    x, y = grid()
    n = 28
    over = (np.floor(x * n) + np.floor(y * n)) % 2
    thread_x = np.sin(np.pi * ((x * n) % 1))
    thread_y = np.sin(np.pi * ((y * n) % 1))
    height = np.where(
        over > 0, thread_x * (0.4 + 0.6 * thread_y), thread_y * (0.4 + 0.6 * thread_x)
    )
    return height * 0.8 + 0.2 * (cloud(dice("weave"), 1.0) + 1) / 2


def slub():
    """Linen: threads of uneven thickness, both ways."""
    rng = dice("slub")
    along = cloud(rng, 0.55, low=6, stretch=9)
    across = cloud(rng, 0.55, low=6, stretch=9).T
    return 0.5 + 0.25 * (along + across)


def knit():
    """Columns of little v's."""
    x, y = grid()
    n, rows = 12, 16
    fold = np.abs((x * n) % 1 - 0.5) * 2
    stitch = np.sin(np.pi * ((y * rows + fold * 0.9) % 1))
    column = np.sin(np.pi * ((x * n * 2) % 1)) ** 0.5
    return stitch * 0.55 + column * 0.45


def felt():
    return 0.5 + 0.4 * cloud(dice("felt"), 0.7, low=8)


def fur():
    return 0.5 + 0.4 * cloud(dice("fur"), 0.8, low=16)


def clay():
    return 0.5 + 0.4 * cloud(dice("clay"), 0.9, low=9)


def leather():
    """Pebbles: the distance to the second nearest seed less that to the nearest."""
    rng = dice("leather")
    n = 26
    seed = rng.random((n, n, 2)) * 0.85
    x, y = grid()
    cx, cy = np.floor(x * n).astype(int), np.floor(y * n).astype(int)
    first = np.full((TILE, TILE), 9.0)
    second = first.copy()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            s = seed[(cy + dy) % n, (cx + dx) % n]
            d = np.hypot(cx + dx + s[..., 0] - x * n, cy + dy + s[..., 1] - y * n)
            second = np.minimum(second, np.maximum(first, d))
            first = np.minimum(first, d)
    return step(second - first, 0.0, 0.45) * 0.8 + 0.1 * (cloud(rng, 1.0) + 1)


def wood():
    """Growth rings cut lengthwise: a ramp, bent by long soft noise."""
    rng = dice("wood")
    _, y = grid()
    bent = y * 9 + 1.6 * cloud(rng, 2.2, stretch=5)
    rings = (bent % 1) ** 1.6
    return 0.62 + 0.3 * (0.5 - rings) + 0.22 * cloud(rng, 0.8, low=4, stretch=16)


def brushed():
    return 0.5 + 0.4 * cloud(dice("brushed steel"), 0.5, low=8, stretch=40)


def wicker():
    """Flat canes under and over upright ones."""
    x, y = grid()
    n, rows = 7, 10
    flip = np.floor(y * rows) % 2
    phase = x * n + flip
    over = 0.5 + 0.5 * np.cos(np.pi * phase)
    cane = np.sin(np.pi * ((y * rows) % 1)) ** 0.6
    return cane * (0.25 + 0.75 * over) + 0.05 * cloud(dice("wicker"), 0.8)


RELIEFS = {
    f.__name__: f for f in (weave, slub, knit, felt, fur, clay, leather, wood, brushed, wicker)
}


@cache
def relief(name: str) -> np.ndarray:
    return RELIEFS[name]().astype(np.float32)
