"""The clay: smooth curves, and the surfaces that grow from them.

Lengths are in centimetres, ``y`` points up, and the camera stands at ``+z``.
Every surface carries a ``uv`` in centimetres as well, so that a pattern keeps
its size when it bends around a form.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

TAU = 2 * np.pi


@dataclass
class Patch:
    """One piece of surface: points, normals, uv and the triangles between."""

    points: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray
    skin: object = field(default=None)  # a materials.Skin, set by ``wearing``

    def wearing(self, skin) -> Patch:
        return replace(self, skin=skin)

    def moved(self, x=0.0, y=0.0, z=0.0) -> Patch:
        return replace(self, points=self.points + np.array([x, y, z]))

    def turned(self, axis: str, degrees: float) -> Patch:
        """Rotate about an axis through the origin."""
        turn = rotation(axis, degrees)
        return replace(self, points=self.points @ turn.T, normals=self.normals @ turn.T)

    def mirrored(self) -> Patch:
        """The same piece on the other side of the ``x = 0`` plane."""
        flip = np.array([-1.0, 1.0, 1.0])
        return replace(self, points=self.points * flip, normals=self.normals * flip)

    def flat_uv(self, axes: str = "xy") -> Patch:
        """Lay patterns on straight, as if printed from one side."""
        columns = ["xyz".index(axis) for axis in axes]
        return replace(self, uv=self.points[:, columns].copy())


def rotation(axis: str, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = c
    turn[i, j], turn[j, i] = -s, s
    return turn


# --- curves ---------------------------------------------------------------


def smooth(points, rounds: int = 3, closed: bool = False) -> np.ndarray:
    """Cut the corners of a polyline until it is a curve (Chaikin).

    The curve never overshoots its corner points; a point given twice makes a
    tighter bend, as a knot does.
    """
    curve = np.asarray(points, float)
    for _ in range(rounds):
        following = np.roll(curve, -1, axis=0)
        cut = np.stack([0.75 * curve + 0.25 * following, 0.25 * curve + 0.75 * following], 1)
        cut = cut.reshape(-1, curve.shape[1])
        curve = cut if closed else np.vstack([curve[:1], cut[1:-3], curve[-1:]])
    keep = np.r_[True, np.linalg.norm(np.diff(curve, axis=0), axis=1) > 1e-6]
    return curve[keep]


def resample(curve: np.ndarray, count: int) -> np.ndarray:
    """The same curve with ``count`` points at equal distances."""
    walked = np.r_[0, np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))]
    at = np.linspace(0, walked[-1], count)
    return np.stack([np.interp(at, walked, column) for column in curve.T], 1)


def superellipse(width: float, depth: float, power: float = 2.0, count: int = 48) -> np.ndarray:
    """A closed ring in the x-z plane, from an ellipse (2) towards a box (6).

    It starts at the back, so that the seam of a pattern is out of sight.
    """
    angle = np.linspace(0, TAU, count + 1) - np.pi / 2
    c, s = np.cos(angle), np.sin(angle)
    x = np.sign(c) * np.abs(c) ** (2 / power) * width / 2
    z = np.sign(s) * np.abs(s) ** (2 / power) * depth / 2
    ring = np.stack([x, z], 1)
    return resample(ring, count + 1)  # equal steps: no crowding at the corners


# --- surfaces -------------------------------------------------------------


def patch(grid: np.ndarray, closed: bool = False, uv: np.ndarray | None = None) -> Patch:
    """A surface through a (rows, columns, 3) grid of points.

    ``closed`` says that the last column lies on the first.
    """
    grid = np.asarray(grid, float)
    rows, columns, _ = grid.shape
    down = np.gradient(grid, axis=0)
    if closed:
        core = grid[:, :-1]
        across = np.roll(core, -1, axis=1) - np.roll(core, 1, axis=1)
        across = np.concatenate([across, across[:, :1]], axis=1)
    else:
        across = np.gradient(grid, axis=1)
    normals = np.cross(across, down)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    normals = normals / np.maximum(length, 1e-12)

    if uv is None:
        steps_u = np.linalg.norm(np.diff(grid, axis=1), axis=2)
        widest = np.argmax(steps_u.sum(1))
        u = np.r_[0, np.cumsum(steps_u[widest])]
        v = np.r_[0, np.cumsum(np.linalg.norm(np.diff(grid, axis=0), axis=2).mean(1))]
        uv = np.stack(np.broadcast_arrays(u[None, :], v[:, None]), 2)

    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (
        corner.ravel()
        for corner in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1])
    )
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Patch(grid.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), triangles)


def lathe(profile, around: int = 72, ribs: int = 0, rib_depth: float = 0.0, twist: float = 0.0):
    """Turn a profile of (radius, height) points about the y axis."""
    profile = np.asarray(profile, float)
    radius = np.maximum(profile[:, 0], 1e-3)[:, None]
    height = profile[:, 1][:, None]
    if ribs:
        around = max(around, ribs * 10)
    angle = np.linspace(0, TAU, around + 1)[None, :] - np.pi / 2
    if ribs:
        # Rounded flutes: |sin| has the sharp valley between two ribs.
        wave = np.abs(np.sin((angle + twist * height) * ribs / 2))
        radius = radius + rib_depth * (wave - 0.6) * np.minimum(1, radius / radius.max() * 1.2)
    x, z = radius * np.cos(angle), radius * np.sin(angle)
    y = np.broadcast_to(height, x.shape)
    made = patch(np.stack([x, y, z], 2), closed=True)
    # Patterns hang from the middle of the front, not from the seam.
    made.uv[:, 0] -= made.uv[:, 0].max() / 2
    return made


def loft(rings) -> Patch:
    """A skin over a stack of equally long closed rings of 3-d points."""
    return patch(np.asarray(rings), closed=True)


def capped(rings) -> np.ndarray:
    """Close a stack of rings at both ends, with a small bevel."""

    def lid(ring):
        middle = ring[:-1].mean(0)
        return [middle + (ring - middle) * k for k in (0.002, 0.5, 0.9, 0.985)]

    rings = [np.asarray(ring) for ring in rings]
    return np.array(lid(rings[0]) + rings + lid(rings[-1])[::-1])


def tube(path, size, power: float = 2.0, around: int = 16, up=(0, 0, 1), close: bool = True):
    """Sweep a superellipse along a path.

    ``size`` is the thickness: one number, a (wide, thick) pair, or such a pair
    for every point. ``up`` is the direction in which ``thick`` is measured.
    """
    path = np.asarray(path, float)
    size = np.asarray(size, float)
    if size.ndim == 0:
        size = np.array([size, size])
    if size.ndim == 1:
        size = np.tile(size, (len(path), 1))
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, np.asarray(up, float))
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    thick = np.cross(side, along)
    unit = superellipse(1, 1, power, around)
    rings = [
        p + unit[:, :1] * s * w + unit[:, 1:] * t * h
        for p, s, t, (w, h) in zip(path, side, thick, size, strict=True)
    ]
    return loft(capped(rings) if close else rings)


def block(width, height, depth, corner=1.0, edge=0.5, puff=0.0) -> list[Patch]:
    """A box with rounded corners (seen from above) and rounded edges.

    It stands on the floor; ``puff`` lets its faces swell, like upholstery.
    """
    corner = max(corner, edge + 0.01)
    arc = np.linspace(0, np.pi / 2, 7)

    def ring(inset, y, swell):
        w, d, r = width / 2 - inset, depth / 2 - inset, max(corner - inset, 0.01)
        points = []
        for quarter in range(4):
            angle = arc + quarter * np.pi / 2 - np.pi / 2
            cx = (w - r) * (1 if quarter in (0, 1) else -1)
            cz = (d - r) * (1 if quarter in (1, 2) else -1)
            points.append(np.stack([cx + r * np.cos(angle), cz + r * np.sin(angle)], 1))
        loop = np.concatenate(points)
        loop = resample(np.vstack([loop, loop[:1]]), 81)
        bulge = 1 + swell * np.cos(np.clip(loop / [w, d], -1, 1) * np.pi / 2)[:, ::-1] * [
            1 / width,
            1 / depth,
        ]
        loop = loop * bulge
        return np.stack([loop[:, 0], np.full(len(loop), y), loop[:, 1]], 1)

    turn = np.linspace(0, np.pi / 2, 6)
    rings = [ring(edge * (1 - np.sin(t)), edge * (1 - np.cos(t)), 0) for t in turn]
    for t in np.linspace(0, 1, 9)[1:-1]:
        rings.append(ring(0, edge + t * (height - 2 * edge), 2 * puff * np.sin(np.pi * t)))
    rings += [ring(edge * (1 - np.sin(t)), height - edge * (1 - np.cos(t)), 0) for t in turn[::-1]]
    sides = loft(rings)

    def lid(rim, lift):
        middle = rim[:-1].mean(0)
        rows = []
        for k in np.linspace(1, 0.001, 10):
            row = middle + (rim - middle) * k
            row[:, 1] += lift * (1 - k**2)
            rows.append(row)
        return patch(np.array(rows), closed=True).flat_uv("xz")

    return [sides, lid(rings[-1], puff), lid(rings[0], 0.0)]


def ball(width, height, depth, power: float = 2.0) -> Patch:
    """An ellipsoid about the origin, or something boxier."""
    angle = np.linspace(0.002, np.pi - 0.002, 25)
    rings = []
    for a in angle:
        s, c = np.sin(a) ** (2 / power), np.cos(a)
        c = np.sign(c) * np.abs(c) ** (2 / power)
        ring = superellipse(width * s, depth * s, power, 36)
        rings.append(np.stack([ring[:, 0], np.full(len(ring), c * height / 2), ring[:, 1]], 1))
    return loft(rings)


def disc(radius: float, y: float = 0.0, dome: float = 0.0) -> Patch:
    """A round plate lying in the x-z plane, perhaps slightly domed."""
    r = np.linspace(radius, 1e-3, 10)
    return lathe(np.stack([r, y + dome * (1 - (r / radius) ** 2)], 1)).flat_uv("xz")


def bow(start, end, sag, count: int = 40) -> np.ndarray:
    """A path from one point to another that swings out by ``sag`` halfway."""
    start, end, sag = (np.asarray(p, float) for p in (start, end, sag))
    t = np.linspace(0, 1, count)[:, None]
    return start + (end - start) * t + sag * np.sin(np.pi * t)
