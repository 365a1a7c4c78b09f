"""What several products share: ways to dress a form, and common parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..materials import Skin
from ..mesh import Patch, loft, smooth, superellipse, tube


def plain(skin: Skin, colour: str | None = None, material: str | None = None) -> Skin:
    """The same skin without its pattern."""
    return replace(
        skin, pattern="plain", colours=(colour or skin.colours[0],),
        material=material or skin.material,
    )  # fmt: skip


def of(material: str, colour: str, glow: float = 0.0) -> Skin:
    return Skin(material, (colour,), glow=glow)


def wear(patches, skin: Skin) -> list[Patch]:
    return [p.wearing(skin) for p in patches]


def moved(patches, x=0.0, y=0.0, z=0.0) -> list[Patch]:
    return [p.moved(x, y, z) for p in patches]


def every(patches, change) -> list[Patch]:
    return [change(p) for p in patches]


def vessel(outline, wall=0.35, rounds=3):
    """Outer and inner wall of a pot with the given outer (radius, height) line."""
    outline = np.asarray(outline, float)
    rim_r, rim_y = outline[-1]
    lip = [
        (rim_r, rim_y - 0.02),
        (rim_r, rim_y),
        (rim_r - wall, rim_y),
        (rim_r - wall, rim_y - 0.03),
    ]
    outside = smooth(np.vstack([outline[:-1], lip]), rounds)
    inner = outline[::-1] - [wall, 0]
    inner = inner[(inner[:, 1] > wall) & (inner[:, 0] > wall)]
    inside = np.vstack([lip[-1:], inner[1:], [(0, max(wall, inner[-1, 1]))]])
    return outside, smooth(inside, rounds)


def leg(top, foot, thick=3.4, thin=2.0):
    path = np.linspace(top, foot, 8)
    size = np.linspace(thick, thin, 8)[:, None] * [1, 1]
    return tube(path, size, around=14)


def ribbon_along(path, wide, thick):
    """A flat band in x that follows a path in the y-z plane."""
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    out = np.stack([0 * along[:, 0], along[:, 2], -along[:, 1]], 1)
    ring = superellipse(1, 1, 5, 24)
    rings = path[:, None] + ring[None, :, :1] * [1, 0, 0] * wide[:, None, None]
    rings = rings + out[:, None] * ring[None, :, 1:] * thick
    return [loft(rings)]


def box_ring(width, depth, y, power=4.5, count=72):
    ring = superellipse(width, depth, power, count)
    return np.stack([ring[:, 0], np.full(len(ring), y), ring[:, 1]], 1)
