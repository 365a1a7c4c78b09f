"""From triangles to visible pixels, without a loop over either.

Each triangle is cut into horizontal spans, the spans are unrolled into pixels,
and for each pixel the nearest triangle wins.
"""

from __future__ import annotations

import numpy as np

EMPTY = np.iinfo(np.int64).max


def visible(xy: np.ndarray, depth: np.ndarray, triangles: np.ndarray, width: int, height: int):
    """What is seen where: flat pixel numbers, triangle numbers and depths.

    ``depth`` grows away from the camera and must be positive.
    """
    x, y = xy.astype(np.float32).T
    downwards = np.take_along_axis(triangles, np.argsort(y[triangles], axis=1), 1).T
    (x0, x1, x2), (y0, y1, y2) = x[downwards], y[downwards]

    # Rows: those whose middle lies between the highest and the lowest corner.
    top = np.clip(np.ceil(y0 - 0.5), 0, height).astype(np.int32)
    rows = np.clip(np.ceil(y2 - 0.5), 0, height).astype(np.int32) - top
    tri = np.repeat(np.arange(len(rows), dtype=np.int32), rows)
    row = np.arange(len(tri), dtype=np.int32) + np.repeat(top - (np.cumsum(rows) - rows), rows)
    middle = row.astype(np.float32) + np.float32(0.5)

    def slope(xa, ya, xb, yb):
        rise = yb - ya
        return (xb - xa) / np.where(rise == 0, np.float32(1), rise)

    long_side = x0[tri] + (middle - y0[tri]) * slope(x0, y0, x2, y2)[tri]
    upper = middle < y1[tri]
    short_side = x1[tri] + (middle - y1[tri]) * np.where(
        upper, slope(x0, y0, x1, y1)[tri], slope(x1, y1, x2, y2)[tri]
    )
    left = np.clip(np.ceil(np.minimum(long_side, short_side) - np.float32(0.5)), 0, width).astype(
        np.int32
    )
    right = np.clip(np.ceil(np.maximum(long_side, short_side) - np.float32(0.5)), 0, width).astype(
        np.int32
    )

    full = np.flatnonzero(right > left)
    tri, row, middle, left = tri[full], row[full], middle[full], left[full]
    wide = right[full] - left

    # Depth is a plane over each triangle: a start and a slope for each span.
    (a,), (b,), (c,) = (p[:, tri] for p in planes(xy, depth[:, None], triangles))
    x0, y0 = xy[triangles[:, 0]].T.astype(np.float32)
    start = a * (left.astype(np.float32) + np.float32(0.5) - x0[tri]) + b * (middle - y0[tri]) + c
    first = np.cumsum(wide) - wide
    count = np.arange(int(wide.sum()), dtype=np.int32)
    along = (count - np.repeat(first.astype(np.int32), wide)).astype(np.float32)
    z = np.repeat(start, wide) + np.repeat(a, wide) * along
    pixel = count + np.repeat((row * width + left - first).astype(np.int32), wide)
    # Positive floats sort like their bits: depth above, triangle number below.
    key = np.maximum(z, np.float32(1e-6)).view(np.int32).astype(np.int64) << 32
    key |= np.repeat(tri.astype(np.int64), wide)
    nearest = np.full(width * height, EMPTY, np.int64)
    np.minimum.at(nearest, pixel.astype(np.intp), key)

    seen = np.flatnonzero(nearest != EMPTY)
    won = nearest[seen]
    return seen, won & 0xFFFFFFFF, (won >> 32).astype(np.int32).view(np.float32)


def planes(xy: np.ndarray, values: np.ndarray, triangles: np.ndarray):
    """For each triangle the slopes of (points, k) values over the picture.

    Gives (right, down, start): three (k, triangles) arrays; ``start`` is the
    value at the triangle's first corner.
    """
    (x0, x1, x2), (y0, y1, y2) = xy[triangles.T].transpose(2, 0, 1)
    v0, v1, v2 = values[triangles.T].transpose(0, 2, 1)
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    # Slivers seen edge-on would blow up: they are taken as flat.
    scale = np.where(np.abs(area) < 1e-3, 0, 1 / np.where(area == 0, 1, area))
    v1, v2 = (v1 - v0) * scale, (v2 - v0) * scale
    right = v1 * (y2 - y0) - v2 * (y1 - y0)
    down = v2 * (x1 - x0) - v1 * (x2 - x0)
    return right.astype(np.float32), down.astype(np.float32), v0.astype(np.float32)


def interpolate(xy, values, triangles, pixels, tris, width) -> np.ndarray:
    """Values of the corners blended at the visible pixels, as (k, pixels)."""
    x0, y0 = xy[triangles[:, 0]].T.astype(np.float32)
    dx = (pixels % width).astype(np.float32) + np.float32(0.5) - x0[tris]
    dy = (pixels // width).astype(np.float32) + np.float32(0.5) - y0[tris]
    blend = np.empty((values.shape[1], len(pixels)), np.float32)
    slopes = planes(xy, values, triangles)
    for k, (right, down, start) in enumerate(zip(*slopes, strict=True)):
        blend[k] = start[tris] + right[tris] * dx + down[tris] * dy
    return blend
