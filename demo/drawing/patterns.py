"""What is printed, painted or woven on a product.

A pattern is a square tile that repeats without a seam. It holds, for every
texel, how much of a product's second and third colour shows over the first.
"""

from __future__ import annotations

from functools import cache, lru_cache
from zlib import crc32

import numpy as np
from PIL import Image, ImageDraw

TILE = 512


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Tile coordinates from 0 to 1: across, down."""
    t = (np.arange(TILE, dtype=np.float32) + 0.5) / TILE
    return np.meshgrid(t, t)


def dice(name: str) -> np.random.Generator:
    return np.random.default_rng(crc32(name.encode()))


def cloud(rng, slope: float = 1.5, low: float = 0.0, stretch: float = 1.0) -> np.ndarray:
    """Seamless noise between about -1 and 1, made of waves with random phases.

    ``slope`` takes away the fine grain, ``low`` the waves that are longer than
    1/low of a tile, ``stretch`` draws the grain out along the tile's width.
    """
    f = np.fft.fftfreq(TILE) * TILE
    radius = np.hypot(f[None, :] * stretch, f[:, None])
    strength = 1 / np.maximum(radius, 1) ** slope
    strength[radius < max(low, 0.5)] = 0
    phases = np.exp(2j * np.pi * rng.random((TILE, TILE)))
    noise = np.fft.ifft2(strength * phases).real
    return (noise / (2.2 * noise.std())).clip(-1.5, 1.5).astype(np.float32)


def step(x, lo, hi):
    """Smooth step from 0 at ``lo`` to 1 at ``hi``."""
    t = np.clip((x - lo) / (hi - lo), 0, 1)
    return t * t * (3 - 2 * t)


def band(x, half, soft=0.008):
    """1 where x is within ``half`` of a whole number."""
    return step(half - np.abs(x - np.round(x)), -soft, soft)


class Sheet:
    """A seamless drawing in two inks; shapes that cross an edge come back in."""

    def __init__(self):
        self.scale = 2
        size = TILE * self.scale
        self.image = Image.new("RGB", (size, size))
        self.draw = ImageDraw.Draw(self.image)

    def shape(self, outline, ink: int):
        """Fill an outline, in tile units. Ink 0 is the first colour again."""
        size = TILE * self.scale
        fill = [(0, 0, 0), (255, 0, 0), (0, 255, 0)][ink]
        outline = np.asarray(outline)
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                moved = outline + np.array([dx, dy])
                if (moved.max(0) > 0).all() and (moved.min(0) < 1).all():
                    self.draw.polygon([tuple(p) for p in moved * size], fill=fill)

    def blob(self, x, y, rx, ry=None, turn=0.0, ink=1, pointed=1.0):
        """An ellipse; ``pointed`` above 1 makes it a leaf."""
        ry = rx if ry is None else ry
        a = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        px, py = rx * np.cos(a), ry * np.sign(np.sin(a)) * np.abs(np.sin(a)) ** pointed
        c, s = np.cos(turn), np.sin(turn)
        self.shape(np.stack([x + c * px - s * py, y + s * px + c * py], 1), ink)

    def stroke(self, points, width, ink=1):
        """A line that tapers at both ends."""
        points = np.asarray(points, float)
        along = np.gradient(points, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        side = np.stack([-along[:, 1], along[:, 0]], 1)
        swell = width / 2 * np.sin(np.linspace(0.25, np.pi - 0.25, len(points)))[:, None]
        self.shape(np.vstack([points + side * swell, (points - side * swell)[::-1]]), ink)

    def weights(self):
        small = self.image.resize((TILE, TILE), Image.BOX)
        return np.asarray(small, np.float32)[:, :, :2] / 255


def weights(second, third=None):
    second = np.broadcast_to(second, (TILE, TILE))
    third = np.zeros_like(second) if third is None else np.broadcast_to(third, (TILE, TILE))
    return np.stack([second * (1 - third), third], 2).astype(np.float32)


# --- the patterns -----------------------------------------------------------


def plain():
    return weights(np.float32(0))


def striped():
    _, y = grid()
    return weights(band(y * 3, 0.22))


def pinstriped():
    x, _ = grid()
    return weights(band(x * 6, 0.07), band(x * 6 + 0.5, 0.025))


def ribbon():
    """Broad and narrow bands in two colours."""
    _, y = grid()
    narrow = np.maximum(band(y * 2 + 0.28, 0.035), band(y * 2 - 0.28, 0.035))
    return weights(band(y * 2, 0.17), narrow)


def dotted():
    sheet = Sheet()
    for row in range(4):
        for column in range(4):
            sheet.blob((column + row % 2 / 2) / 4, row / 4 + 0.1, 0.062)
    return sheet.weights()


def confetti():
    sheet, rng = Sheet(), dice("confetti")
    for number in range(70):
        x, y = rng.random(2)
        a, long, wide = rng.random() * np.pi, 0.022 + 0.01 * rng.random(), 0.008
        sheet.blob(x, y, long, wide, a, ink=1 + number % 2)
    return sheet.weights()


def checked():
    """Gingham: two sets of half-strength bands that add up."""
    x, y = grid()
    return weights((band(x * 4, 0.25) + band(y * 4, 0.25)) / 2)


def tartan():
    x, y = grid()
    wide = (band(x * 2, 0.24) + band(y * 2, 0.24)) * 0.45
    fine = np.maximum(band(x * 2 + 0.5, 0.025), band(y * 2 + 0.5, 0.025))
    thin = np.maximum(band(x * 2, 0.02), band(y * 2, 0.02))
    return weights(np.maximum(wide, thin * 0.9), fine * 0.8)


def zigzag():
    x, y = grid()
    fold = np.abs((x * 4) % 1 - 0.5)
    return weights(band(y * 4 + fold * 0.9, 0.2), band(y * 4 + fold * 0.9 + 0.5, 0.045))


def scallops():
    """Overlapping fans, row upon row."""
    x, y = grid()
    second = np.zeros((TILE, TILE), np.float32)
    done = np.zeros((TILE, TILE), bool)
    for row in range(-1, 9):  # a lower fan hides the one above
        cx = (x * 4 + (row % 2) / 2) % 1 - 0.5
        r = np.hypot(cx, (y - row / 8 + 0.0) * 4)
        inside = (r < 0.52) & (y * 8 > row - 1) & ~done & (y * 8 <= row + 0.001)
        rings = band(r * 5.2, 0.24, 0.08)
        second[inside] = rings[inside]
        done |= inside
    return weights(second)


def floral():
    """Five-petalled blossoms on stems, with leaves between."""
    sheet, rng = Sheet(), dice("floral")
    spots = [(0.2, 0.2, 0.12), (0.7, 0.12, 0.085), (0.5, 0.52, 0.13), (0.93, 0.5, 0.08),
             (0.15, 0.72, 0.09), (0.75, 0.84, 0.115), (0.4, 0.93, 0.06)]  # fmt: skip
    for x, y, r in spots:
        lean = rng.uniform(-0.1, 0.1)
        t = np.linspace(0, 1, 20)
        sheet.stroke(np.stack([x + lean * t**2, y + r * 2.1 * t], 1), 0.014, 2)
        for side in (-1, 1):
            sheet.blob(x + lean * 0.4 + side * r * 0.5, y + r * 1.5, r * 0.5, r * 0.2,
                       -side * 0.6, 2, 1.4)  # fmt: skip
    for x, y, r in spots:
        first = rng.random() * np.pi
        for petal in range(5):
            a = first + petal * 2 * np.pi / 5
            sheet.blob(x + np.cos(a) * r * 0.55, y + np.sin(a) * r * 0.55, r * 0.46, r * 0.4, a)
        sheet.blob(x, y, r * 0.27, ink=2)
        sheet.blob(x, y, r * 0.13, ink=0)
    for _ in range(16):
        sheet.blob(*rng.random(2), 0.011, ink=1)
    return sheet.weights()


def leafy():
    sheet, rng = Sheet(), dice("leafy")
    for number, (x, y) in enumerate([(0.22, 0.5), (0.72, 0.0)]):
        t = np.linspace(-1, 1, 40)
        bend = 0.05 * np.sin(t * 2.2)
        sheet.stroke(np.stack([x + bend, y + t * 0.44], 1), 0.014, 1)
        for k, s in enumerate(np.linspace(-0.9, 0.75, 8)):
            for side in (-1, 1):
                stem = x + 0.05 * np.sin(s * 2.2)
                long = 0.085 * (1 - 0.35 * abs(s)) * rng.uniform(0.9, 1.1)
                a = side * 0.75
                sheet.blob(stem + side * long * 0.85, y + s * 0.44 + long * 0.5, long,
                           long * 0.42, a, 1 + (k + number) % 2, 1.35)  # fmt: skip
    return sheet.weights()


def starry():
    sheet, rng = Sheet(), dice("starry")
    for row in range(4):
        for column in range(4):
            x, y = (column + row % 2 / 2 + 0.2) / 4, (row + 0.4) / 4
            a = np.linspace(0, 2 * np.pi, 10, endpoint=False) + rng.random()
            r = np.where(np.arange(10) % 2, 0.024, 0.058) * rng.uniform(0.75, 1.1)
            sheet.shape(np.stack([x + r * np.cos(a), y + r * np.sin(a)], 1), 1)
    return sheet.weights()


def marbled():
    """Veins are where a crumpled landscape crosses sea level."""
    rng = dice("marbled")
    x, y = grid()
    land = cloud(rng, 2.1) * 0.7 + np.sin(2 * np.pi * (x + y)) * 0.45
    veins = 1 - step(np.abs(land), 0.0, 0.075)
    mist = (1 - step(np.abs(land), 0.0, 0.45)) * 0.4
    fine = 1 - step(np.abs(cloud(rng, 1.9) + 0.3), 0.0, 0.05)
    depth = 0.55 + 0.45 * cloud(rng, 2.0)
    return weights(np.clip(veins * depth + mist, 0, 1), np.clip(fine * 0.55 * depth, 0, 1))


def terrazzo():
    sheet, rng = Sheet(), dice("terrazzo")
    for number in range(110):
        x, y = rng.random(2)
        r = rng.choice([0.016, 0.026, 0.042])
        a = np.sort(rng.random(6)) * 2 * np.pi
        k = r * rng.uniform(0.75, 1.15, 6)
        sheet.shape(np.stack([x + k * np.cos(a), y + k * np.sin(a)], 1), 1 + number % 2)
    return sheet.weights()


def speckled():
    sheet, rng = Sheet(), dice("speckled")
    for _ in range(420):
        r = 0.0022 + 0.0055 * rng.random() ** 3
        sheet.blob(*rng.random(2), r, r * rng.uniform(0.6, 1), rng.random() * 3)
    return weights(sheet.weights()[:, :, 0] * 0.8)


def brushed_on():
    """Loose rows of brush marks."""
    sheet, rng = Sheet(), dice("brushed")
    for row in range(6):
        for column in range(5):
            x = (column + 0.5 * (row % 2)) / 5 + rng.uniform(-0.02, 0.02)
            y = (row + 0.5) / 6 + rng.uniform(-0.015, 0.015)
            t = np.linspace(-1, 1, 16)
            path = np.stack([x + t * 0.06, y - t * 0.035 + 0.012 * np.sin(3 * t)], 1)
            sheet.stroke(path, rng.uniform(0.035, 0.05), 1 if (row + column) % 3 else 2)
    return sheet.weights()


PATTERNS = {
    "plain": plain,
    "striped": striped,
    "pinstriped": pinstriped,
    "banded": ribbon,
    "dotted": dotted,
    "confetti": confetti,
    "checked": checked,
    "tartan": tartan,
    "zigzag": zigzag,
    "scalloped": scallops,
    "floral": floral,
    "leafy": leafy,
    "starry": starry,
    "marbled": marbled,
    "terrazzo": terrazzo,
    "speckled": speckled,
    "brushstroke": brushed_on,
    "two-tone": plain,  # dipped by height: see light.albedo
}


@cache
def tile(name: str) -> np.ndarray:
    """The (512, 512, 2) weights of a pattern's second and third colour."""
    return PATTERNS[name]()


# --- laying a tile on a surface ---------------------------------------------


@lru_cache(maxsize=256)
def _shrunk(key: str, make, size: int) -> list[np.ndarray]:
    """A tile at a smaller size, as one flat array per channel."""
    whole = make(key)
    by = TILE // size
    if whole.ndim == 2:
        whole = whole[:, :, None]
    small = whole.reshape(size, by, size, by, -1).mean((1, 3))
    return [np.ascontiguousarray(small[:, :, k], np.float32).ravel() for k in range(small.shape[2])]


def sample(key: str, uv: np.ndarray, repeat: float, pixels_per_unit: float, make=tile):
    """Read a tile at (2, n) surface points: bilinear, from the level that fits the zoom.

    Gives one row for each channel of the tile.
    """
    size = TILE
    while size > 32 and size > 1.6 * repeat * pixels_per_unit:
        size //= 2
    at = uv * np.float32(size / repeat) - np.float32(0.5)
    whole = np.floor(at)
    fx, fy = at - whole
    x0, y0 = whole.astype(np.int32) & (size - 1)  # sizes are powers of two
    right = ((x0 + 1) & (size - 1)) - x0
    top = y0 * size + x0
    low = ((y0 + 1) & (size - 1)) * size + x0
    rows = []
    for texels in _shrunk(key, make, size):
        upper = texels[top]
        upper += (texels[top + right] - upper) * fx
        lower = texels[low]
        lower += (texels[low + right] - lower) * fx
        rows.append(upper + (lower - upper) * fy)
    return rows
