"""Lamps, shadows and reflections.

A large soft lamp stands at the upper left, a narrow one at the right, and the
paper sweep under and behind the product throws some light back.

Vectors of many points are kept as (3, n) arrays: numpy is quickest when each
coordinate lies in one piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .materials import MATERIALS, colour, relief
from .patterns import sample, step
from .raster import visible


def unit(*vector) -> np.ndarray:
    vector = np.array(vector, np.float32)
    return vector / np.linalg.norm(vector)


def across(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two axes at right angles to a direction."""
    a = unit(*np.cross(direction, [0.0, 0.31, 0.95]))
    return a, unit(*np.cross(a, direction))


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot product of (3, n) vectors with each other, or with one vector."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def column(vector) -> np.ndarray:
    return np.asarray(vector, np.float32)[:, None]


def blur(image: np.ndarray, radius: int, rounds: int = 2) -> np.ndarray:
    """Box blur over the last two axes, twice: nearly a Gaussian."""
    if radius > 4:  # what is blurred that much can be blurred in small
        half = (image[:, ::2] + image[:, 1::2]) / 2
        half = (half[::2] + half[1::2]) / 2
        return enlarge(blur(half, (radius + 1) // 2, rounds), len(image))
    wide = 2 * radius + 1
    for _ in range(rounds):
        for axis in (-2, -1):
            pad = [(0, 0)] * image.ndim
            pad[axis] = (radius, radius)
            padded = np.moveaxis(np.pad(image, pad, mode="edge"), axis, 0)
            count = len(padded) - 2 * radius
            total = padded[:count].copy()
            for k in range(1, wide):
                total += padded[k : count + k]
            image = np.moveaxis(total, 0, axis) / np.float32(wide)
    return np.ascontiguousarray(image)


def lookup(images, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Bilinear reading of equally large images at points, clamped at the edges."""
    h, w = images[0].shape
    x = np.clip(x - np.float32(0.5), 0, np.float32(w - 1.01))
    y = np.clip(y - np.float32(0.5), 0, np.float32(h - 1.01))
    x0, y0 = x.astype(np.int32), y.astype(np.int32)
    fx, fy = x - x0.astype(np.float32), y - y0.astype(np.float32)
    at = y0 * w + x0
    found = []
    for image in images:
        flat = image.ravel()
        upper, lower = flat[at], flat[at + w]
        upper += (flat[at + 1] - upper) * fx
        lower += (flat[at + (w + 1)] - lower) * fx
        found.append(upper + (lower - upper) * fy)
    return found


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """A soft image at a larger size."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.BILINEAR))


# --- shadows ----------------------------------------------------------------


class Shadows:
    """What the lamp sees, and what the floor sees straight above it."""

    SIZE = 256

    def __init__(self, points, triangles, lamp: np.ndarray, extent: float):
        self.lamp, self.extent = lamp, extent
        self.a, self.b = across(lamp)
        flat = np.stack([points @ self.a, points @ self.b], 1)
        depth = points @ -lamp
        self.depth0 = float(depth.min()) - 1.0
        depth = depth - self.depth0
        margin = 0.25 * extent
        self.low = flat.min(0) - margin
        self.scale = self.SIZE / (np.ptp(flat, axis=0).max() + 2 * margin)
        held, near = self._render((flat - self.low) * self.scale, depth, triangles, self.SIZE)
        self.covered, self.covered_wide = blur(held, 3), blur(held, 11)
        self.blocker = blur(near, 7) / np.maximum(blur(held, 7), 1e-3)
        # For shadows on the product itself: mean and spread of the depth,
        # measured in units of the product to keep the squares small.
        far = depth.max() + 0.3 * extent
        filled = np.where(held > 0, near, far).astype(np.float32) / np.float32(extent)
        self.mean, self.square = blur(filled, 2), blur(filled**2, 2)

        size = self.SIZE // 2
        top = points[:, [0, 2]]
        self.top_low = top.min(0) - margin
        self.top_scale = size / (np.ptp(top, axis=0).max() + 2 * margin)
        held, near = self._render(
            (top - self.top_low) * self.top_scale, points[:, 1] + 1.0, triangles, size
        )
        height = np.where(held > 0, np.maximum(near - 1.0, 0), 1e3)
        tight = np.exp(-height / (0.022 * extent)).astype(np.float32)
        loose = np.exp(-height / (0.14 * extent)).astype(np.float32)
        self.contact = 0.60 * blur(tight, 2) + 0.42 * blur(loose, 8)

    def _render(self, xy, depth, triangles, size):
        seen, _, depths = visible(xy, depth, triangles, size, size)
        held = np.zeros(size * size, np.float32)
        near = np.zeros(size * size, np.float32)
        held[seen] = 1
        near[seen] = depths
        return held.reshape(size, size), near.reshape(size, size)

    def _seen_from_lamp(self, points):
        x = (dot(points, self.a) - np.float32(self.low[0])) * np.float32(self.scale)
        y = (dot(points, self.b) - np.float32(self.low[1])) * np.float32(self.scale)
        return x, y, dot(points, -self.lamp) - np.float32(self.depth0)

    def on_floor(self, points) -> tuple[np.ndarray, np.ndarray]:
        """(lamp light, open sky) from 0 to 1 at points of the floor."""
        x, y, depth = self._seen_from_lamp(points)
        blocker, near, wide = lookup([self.blocker, self.covered, self.covered_wide], x, y)
        # Near the foot a shadow is crisp, further out it spreads.
        spread = np.clip((depth - blocker) / (0.6 * self.extent), 0, 1)
        dark = near * (1 - spread) + wide * spread
        tx = (points[0] - self.top_low[0]) * self.top_scale
        ty = (points[2] - self.top_low[1]) * self.top_scale
        (contact,) = lookup([self.contact], tx.astype(np.float32), ty.astype(np.float32))
        return 1 - dark, 1 - np.clip(contact, 0, 0.93)

    def on_product(self, points, normals) -> np.ndarray:
        """Lamp light from 0 to 1 at points of the product (Chebyshev's bound)."""
        x, y, depth = self._seen_from_lamp(points + normals * np.float32(0.012 * self.extent))
        mean, square = lookup([self.mean, self.square], x, y)
        variance = np.maximum(square - mean**2, np.float32(0.004**2))
        behind = np.maximum(depth / np.float32(self.extent) - mean - np.float32(0.006), 0)
        lit = variance / (variance + behind**2)
        return np.clip((lit - 0.25) / 0.75, 0, 1)


# --- surfaces ---------------------------------------------------------------


@dataclass
class Fragments:
    """Everything known about the visible samples of one picture."""

    pixels: np.ndarray  # flat numbers in the (size, size) picture
    points: np.ndarray  # (3, n), as the normals; uv is (2, n)
    normals: np.ndarray
    uv: np.ndarray
    skin: np.ndarray  # index into the list of skins
    patch: np.ndarray  # index of the patch
    depth: np.ndarray
    size: int
    pixels_per_cm: float
    extent: float  # the product's size in cm
    height: float


def surface(f: Fragments, skins) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour, relief height (in cm) and own light of every fragment."""
    albedo = np.empty((3, len(f.pixels)), np.float32)
    height = np.zeros(len(f.pixels), np.float32)
    glow = np.zeros(len(f.pixels), np.float32)
    for number, skin in enumerate(skins):
        mine = np.flatnonzero(f.skin == number)
        if not len(mine):
            continue
        uv = f.uv[:, mine]
        material = MATERIALS[skin.material]
        inks = [column(colour(name)) for name in skin.colours]
        inks += [inks[-1]] * (3 - len(inks))
        paint = inks[0]
        if skin.pattern == "two-tone":
            wobble = 0.012 * np.sin(f.points[0, mine] * np.float32(9 / f.extent) + 1)
            level = f.points[1, mine] / np.float32(f.height) + wobble
            paint = paint + (inks[1] - paint) * step(level, skin.dip + 0.004, skin.dip - 0.004)
        elif skin.pattern != "plain":
            second, third = sample(skin.pattern, uv, skin.repeat, f.pixels_per_cm)
            paint = paint + (inks[1] - inks[0]) * second + (inks[2] - inks[0]) * third
        if material.relief:
            size = material.repeat * f.extent
            (bumps,) = sample(material.relief, uv, size, f.pixels_per_cm, make=relief)
            paint = paint * (1 + material.mottle * (bumps - np.float32(0.6)))
            height[mine] = bumps * np.float32(material.bump * size / 90)
        if skin.glow:
            # What glows is brightest around the middle of its height.
            y = f.points[1, mine]
            t = (y - y.min()) / max(float(np.ptp(y)), 1e-3) - np.float32(0.45)
            glow[mine] = skin.glow * (1 - 1.7 * t**2)
        albedo[:, mine] = paint
    return albedo, height, glow


def bumpy(f: Fragments, height: np.ndarray) -> np.ndarray:
    """Tip the normals down the slopes of the relief, measured on the picture."""
    size = f.size
    sheet = np.zeros(size * size + 2 * size, np.float32)  # a spare row at each end
    owner = np.full(size * size + 2 * size, -1, np.int32)
    at = f.pixels + size
    sheet[at], owner[at] = height, f.patch

    def slope(stride):
        whole = (owner[at + stride] == f.patch) & (owner[at - stride] == f.patch)
        rise = (sheet[at + stride] - sheet[at - stride]) * np.float32(f.pixels_per_cm / 2)
        return np.clip(rise, -0.7, 0.7) * whole

    # Moving right in the picture is +x; moving up is mostly +y.
    normals = f.normals.copy()
    normals[0] -= slope(1)
    normals[1] += slope(size)
    return normals / np.sqrt(dot(normals, normals))


def crevices(f: Fragments, floor_depth: np.ndarray) -> np.ndarray:
    """Ambient occlusion: how far a point lies behind its surroundings."""
    size, by = f.size, f.size // len(floor_depth)
    depth = np.zeros(size * size, np.float32)
    depth[f.pixels] = f.depth
    small = depth.reshape(size, size)[by // 2 :: by, by // 2 :: by]
    small = np.where(small == 0, floor_depth, small)
    pixel = by / f.pixels_per_cm
    dark = np.zeros_like(small)
    for radius, weight in ((3, 0.6), (9, 0.75)):
        gap = (small - blur(small, radius)) / (radius * pixel)
        dark += weight * np.clip(gap, -0.12, 0.8)
    return np.clip(1 - enlarge(blur(dark, 1), size).ravel()[f.pixels], 0.25, 1.06)


def window(r, toward, wide, high, soft):
    """The share of a soft box seen in the mirror direction ``r``."""
    a, b = across(toward)
    front = dot(r, toward)
    near = np.maximum(front, np.float32(0.05))
    u, v = np.abs(dot(r, a)) / near, np.abs(dot(r, b)) / near
    return step(u, wide + soft, wide - soft) * step(v, high + soft, high - soft) * (front > 0.05)


WARM, COOL = column([1.0, 0.97, 0.92]), column([0.93, 0.97, 1.0])
FILL, STRIP = unit(0.9, 0.25, 0.55), unit(0.95, 0.28, 0.35)


def shade(f: Fragments, skins, shadows: Shadows, eye, paper: np.ndarray, floor_depth):
    """Light of every fragment, as linear RGB in a (3, n) array."""
    albedo, height, glow = surface(f, skins)
    n = bumpy(f, height)
    paper = column(paper)
    table = [MATERIALS[s.material] for s in skins]

    def of(name):
        return np.array([getattr(m, name) for m in table], np.float32)[f.skin]

    view = column(eye) - f.points
    view /= np.sqrt(dot(view, view))
    facing = np.clip(dot(n, view), 0, 1)
    lit = shadows.on_product(f.points, f.normals)
    open_sky = crevices(f, floor_depth)
    up = n[1] * np.float32(0.5) + np.float32(0.5)

    wrap = of("wrap")
    key = np.clip((dot(n, shadows.lamp) + wrap) / (1 + wrap), 0, 1)
    key *= lit + wrap * np.float32(0.12) * (1 - lit)
    fill = np.clip(dot(n, FILL * np.float32(0.6)) + np.float32(0.4), 0, 1)
    # The floor takes the sky from what looks down at it.
    low = 1 - step(f.points[1], -0.05 * f.extent, 0.22 * f.extent)
    sky = open_sky * (1 - np.float32(0.45) * low * (1 - np.clip(n[1], 0, 1)))
    light = key * (WARM * np.float32(0.86)) + (fill * open_sky) * (COOL * np.float32(0.16))
    light += (paper * np.float32(0.20)) * ((1 - up) * sky) + (np.float32(0.36) * up * sky)

    metal = of("metal")
    colours = albedo * (light * (1 - np.float32(0.9) * metal) + glow)

    sheen = of("sheen")
    if sheen.any():
        rim = sheen * (1 - facing) ** 3 * (0.25 + 0.75 * up) * open_sky
        colours += (albedo * np.float32(0.7) + np.float32(0.12)) * rim

    # Only what shines needs a mirror.
    gloss = of("gloss")
    if gloss.any():
        shiny = slice(None) if gloss.all() else np.flatnonzero(gloss)
        reached = np.minimum((0.35 + 0.65 * lit[shiny]) * open_sky[shiny], 1)
        colours[:, shiny] += reached * reflections(
            n[:, shiny], view[:, shiny], facing[shiny], shadows.lamp, paper, albedo[:, shiny],
            gloss[shiny], of("rough")[shiny], metal[shiny],
        )  # fmt: skip
    return colours


def reflections(n, view, facing, lamp, paper, albedo, gloss, rough, metal):
    """The studio as a mirror sees it: soft box, strip light, ceiling, floor."""
    r = n * (2 * facing) - view
    soft = np.float32(0.05) + np.float32(0.9) * rough
    box = window(r, lamp, 0.42 + 0.3 * rough, 0.55 + 0.3 * rough, soft)
    strip = window(r, STRIP, 0.16 + 0.2 * rough, 0.9 + 0.2 * rough, soft)
    sky = step(r[1], -0.35 - rough, 0.55 + rough)
    fresnel = gloss + (1 - gloss) * (1 - facing) ** 5 * (1 - np.float32(0.85) * rough)
    dull = (box * 10 + strip * np.float32(4.5)) / (1 + 6 * rough) + np.float32(0.55) * sky
    floor = paper * (1 - sky)
    mirror = (dull + floor * np.float32(0.3)) * fresnel
    shining = np.flatnonzero(metal)
    if len(shining):
        # Metal takes most of its look from the room: calmer lamps, more contrast.
        r, box, strip = r[:, shining], box[shining], strip[shining]
        calm = box * 1.5 + strip * 1.1 + 0.62 * step(r[1], -0.15, 0.75) + 0.10
        calm += 0.25 * step(r[0], 0.1, -0.7) * step(r[1], 0.7, 0.0)
        room = calm + floor[:, shining] * 0.28
        mirror[:, shining] = room * albedo[:, shining] * (0.75 + 0.25 * (1 - facing[shining]) ** 4)
    return mirror
