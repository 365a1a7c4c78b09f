"""For the table: mugs, bowls, plates, teapots, vases, bottles and candles."""

from __future__ import annotations

import numpy as np

from ..materials import mix
from ..mesh import TAU, disc, lathe, patch, resample, smooth, tube
from .common import of, plain, vessel

# Coordinates are easier to read in rows.
# fmt: off


def handle(points, size):
    path = resample(smooth([(*p, 0) for p in points], 4), 44)
    return tube(path, size, power=2.3, close=False)


MUGS = {
    "straight": [(0, 0), (3.6, 0), (3.6, 0), (4.1, 0.5), (4.1, 1.2), (4.1, 8), (4.1, 9.4)],
    "tapered": [(0, 0), (2.7, 0), (2.7, 0), (3.1, 0.5), (3.5, 3), (4.3, 8), (4.5, 9.6)],
    "belly": [(0, 0), (2.8, 0), (2.8, 0), (3.9, 0.9), (4.9, 3.2), (4.7, 6), (3.7, 7.7), (4.1, 9)],
    "camp": [(0, 0), (4.2, 0), (4.2, 0), (4.35, 0.4), (4.35, 3), (4.35, 7.3), (4.7, 7.6)],
}


def mug(form, skin, trim):
    line = np.array(MUGS[form])
    outside, inside = vessel(line, 0.18 if form == "camp" else 0.38)
    top = line[-1, 1]
    edge = np.interp([0.8 * top, 0.2 * top], line[3:, 1], line[3:, 0]) - 0.12
    ear = [(edge[0], 0.8 * top), (edge[0] + 1.5, 0.85 * top), (edge[0] + 3.1, 0.8 * top),
           (edge[0] + 2.9, 0.45 * top), (edge[1] + 1.7, 0.19 * top),
           (edge[1], 0.2 * top)]
    parts = [
        lathe(outside).wearing(skin),
        lathe(inside).wearing(trim),
        handle(ear, (1.15, 0.75)).wearing(plain(skin)),
    ]
    if form == "camp":
        rim = np.linspace(0, TAU, 61)
        ring = np.stack([4.6 * np.cos(rim), np.full(61, 7.58), 4.6 * np.sin(rim)], 1)
        parts.append(tube(ring, 0.28, up=(0, 1, 0), around=10, close=False).wearing(trim))
    return parts


BOWLS = {
    "round": [(0, 0), (2.6, 0), (2.6, 0), (2.8, 0.7), (5.0, 1.3), (7.0, 3.4), (7.6, 6.4)],
    "wide": [(0, 0), (3.2, 0), (3.2, 0), (3.4, 0.6), (6.5, 1.0), (9.2, 2.6), (10, 4.8)],
    "straight": [(0, 0), (5.6, 0), (5.6, 0), (6.6, 0.3), (7.1, 1.5), (7.4, 4), (7.6, 6.2)],
}


def bowl(form, skin, trim):
    outside, inside = vessel(BOWLS[form], 0.42)
    return [lathe(outside).wearing(skin), lathe(inside).wearing(trim)]


PLATES = {
    "coupe": [(13.2, 2.2), (13.0, 2.3), (12.4, 1.9), (9.6, 0.75), (6, 0.5), (0, 0.5)],
    "rimmed": [(13.4, 1.9), (13.2, 2.0), (12.8, 1.9), (9.2, 1.5), (8.9, 1.35), (8.4, 0.6),
               (7.4, 0.5), (0, 0.5)],
    "flat": [(12.8, 1.7), (12.7, 1.85), (12.4, 1.8), (12.2, 0.9), (11.6, 0.6), (0, 0.6)],
}


def plate(form, skin, trim):
    top = smooth(PLATES[form], 3)
    parts = [lathe(top, 96).flat_uv("xz").wearing(skin)]
    rim = PLATES[form][0]
    under = smooth([rim, (rim[0] - 0.6, rim[1] - 0.9), (8, 0.1), (7.4, 0), (0, 0)], 3)
    parts.append(lathe(under, 96).wearing(plain(skin)))
    a = np.linspace(0, TAU, 97)
    ring = np.stack([(rim[0] - 0.05) * np.cos(a), np.full(97, rim[1]), (rim[0] - 0.05) * np.sin(a)],
                    1)
    parts.append(tube(ring, 0.3, up=(0, 1, 0), around=10, close=False).wearing(trim))
    return parts


TEAPOTS = {
    "round": [(0, 0), (4.6, 0), (4.6, 0), (5.2, 0.6), (8.2, 2.4), (8.6, 6.4), (6.4, 10), (3.9, 11)],
    "tall": [(0, 0), (5.6, 0), (5.6, 0), (6.4, 0.7), (6.9, 4), (6.0, 9), (4.6, 13), (3.7, 14)],
    "low": [(0, 0), (5.8, 0), (5.8, 0), (6.6, 0.6), (9.2, 2.2), (8.9, 5), (6.4, 7.3), (4.0, 7.9)],
}


def teapot(form, skin, trim):
    line = np.array(TEAPOTS[form])
    outside, inside = vessel(line, 0.35)
    rim, top = line[-1]
    reach = np.interp([0.28 * top, 0.75 * top], line[3:, 1], line[3:, 0])
    lid = smooth([(rim - 0.1, top - 0.25), (rim - 0.1, top + 0.15), (rim - 0.5, top + 0.7),
                  (1.2, top + 1.4), (0.55, top + 1.5), (0.55, top + 1.8), (1.1, top + 2.3),
                  (1.0, top + 3.0), (0, top + 3.2)], 3)
    spout = resample(smooth([(-reach[0] + 0.8, 0.28 * top, 0), (-reach[0] - 2.2, 0.36 * top, 0),
                             (-reach[0] - 3.0, 0.75 * top, 0),
                             (-reach[0] - 5.0, 1.02 * top, 0)], 4), 40)
    wide = np.linspace(1, 0, 40)[:, None] ** 1.3 * [2.6, 2.2] + [1.35, 1.25]
    ear = [(reach[1] - 0.3, 0.80 * top), (reach[1] + 2.5, 0.98 * top), (reach[1] + 4.6, 0.8 * top),
           (reach[1] + 3.8, 0.35 * top), (reach[0] - 0.2, 0.22 * top)]
    return [
        lathe(outside).wearing(skin),
        lathe(inside).wearing(plain(skin)),
        lathe(lid).wearing(skin),
        tube(spout, wide, close=False).wearing(plain(skin)),
        handle(ear, (1.3, 0.95)).wearing(trim),
    ]


VASES = {
    "amphora": [(0, 0), (3.6, 0), (3.6, 0), (4.4, 1), (7.8, 8), (8.2, 14), (4.6, 19), (2.4, 21.5),
                (2.6, 25), (3.6, 26.5)],
    "bottle": [(0, 0), (5.0, 0), (5.0, 0), (6.2, 0.8), (7.2, 5), (6.2, 10), (2.4, 13.5), (1.9, 18),
               (1.9, 23), (2.5, 25)],
    "ball": [(0, 0), (4.0, 0), (4.0, 0), (6.6, 1.0), (9.4, 6), (9.0, 12), (5.0, 15.6), (3.4, 16.2),
             (3.6, 17.4)],
    "column": [(0, 0), (5.2, 0), (5.2, 0), (5.6, 0.5), (5.6, 2), (5.7, 20), (6.0, 23)],
    "ribbed": [(0, 0), (4.4, 0), (4.4, 0), (5.6, 1), (7.4, 7), (7.2, 14), (4.6, 19), (4.2, 21.5),
               (5.0, 23.5)],
}


def vase(form, skin, trim):
    outside, inside = vessel(VASES[form], 0.5)
    if form == "ribbed":
        body = lathe(resample(outside, 80), ribs=18, rib_depth=0.75, twist=0.035)
    else:
        body = lathe(outside)
    return [body.wearing(skin), lathe(inside).wearing(trim)]


BOTTLES = {
    "flask": ([(0, 0), (3.4, 0), (3.4, 0), (3.6, 0.3), (3.6, 2), (3.6, 16), (3.4, 18.4),
               (2.4, 19.8),
               (2.0, 20.4), (2.0, 21.2)], [(2.15, 21.1), (2.15, 23.9), (2.0, 24.2), (0, 24.3)]),
    "tumbler": ([(0, 0), (3.0, 0), (3.0, 0), (3.2, 0.3), (3.4, 4), (4.2, 14), (4.35, 17)],
                [(4.5, 16.8), (4.5, 18.2), (4.2, 18.6), (1.5, 18.9), (1.3, 19.9), (0, 20.0)]),
    "slim": ([(0, 0), (2.8, 0), (2.8, 0), (3.0, 0.3), (3.0, 2), (3.0, 19), (2.9, 22), (2.3, 23.5)],
             [(2.3, 23.5), (2.3, 23.6), (2.5, 23.7), (2.5, 26.6), (2.2, 27.2), (0, 27.3)]),
}


def bottle(form, skin, trim):
    body, lid = BOTTLES[form]
    parts = [lathe(smooth(body, 3)).wearing(skin)]
    lid = np.array(lid)
    lid = np.vstack([[(lid[0, 0] - 0.4, lid[0, 1])], np.repeat(lid, 2, axis=0)])
    parts.append(lathe(smooth(lid, 3)).wearing(trim))
    low = lathe(smooth([(3.45, 0.0), (3.7, 0.0), (3.7, 0.05), (3.7, 1.1), (3.7, 1.2), (3.5, 1.25)],
                       2))
    if form == "flask":
        parts.append(low.wearing(trim))
        ring = np.linspace(0, np.pi, 30)
        loop = np.stack([1.5 * np.cos(ring), 24.0 + 2.0 * np.sin(ring), 0 * ring], 1)
        parts.append(tube(loop, (0.9, 0.4), close=False).wearing(trim))
    if form == "tumbler":
        straw = np.array([(0.9, 19, 0), (1.2, 22, 0), (1.9, 26, 0)])
        parts.append(tube(resample(straw, 12), 0.75).wearing(trim))
    return parts


def candle(form, skin, trim):
    r, h = {"jar": (4.2, 8.5), "wide": (6.2, 6.0), "tall": (3.4, 11.5)}[form]
    line = [(0, 0), (r - 0.5, 0), (r - 0.5, 0), (r, 0.5), (r, 2), (r, h - 1), (r, h)]
    outside, inside = vessel(line, 0.35)
    parts = [lathe(outside).wearing(skin), lathe(inside).wearing(plain(skin))]
    level = h - 1.2
    wax = of("wax", mix("wax", trim.colours[0], 0.12), glow=0.06)
    parts.append(disc(r - 0.33, level, -0.25).wearing(wax))
    spots = [(-2.2, 0.4), (2.0, -0.6), (0.3, 1.8)] if form == "wide" else [(0, 0)]
    flame = smooth([(0, 0), (0.35, 0.2), (0.46, 0.7), (0.27, 1.4), (0.05, 2.2), (0, 2.3)], 3)
    for x, z in spots:
        wick = np.array([(x, level - 0.3, z), (x, level + 0.5, z), (x + 0.1, level + 1.0, z)])
        parts.append(tube(wick, 0.16, around=8).wearing(of("felt", "black")))
        fire = lathe(flame, 24).moved(x + 0.1, level + 0.6, z)
        parts.append(fire.wearing(of("paper", "flame", glow=1.7)))
    # A paper label on the front, bent around the jar.
    a = np.linspace(-0.62, 0.62, 20) * min(1, 4.2 / r)
    y = np.linspace(h * 0.62, h * 0.24, 8)
    around = np.broadcast_to(a, (8, 20))
    up = np.broadcast_to(y[:, None], (8, 20))
    grid = np.stack([(r + 0.04) * np.sin(around), up, (r + 0.04) * np.cos(around)], 2)
    parts.append(patch(grid).wearing(of("paper", "linen")))
    inner = grid[2:4, 4:-4] * [1.006, 1, 1.006]
    parts.append(patch(inner).wearing(of("paper", trim.colours[0])))
    return parts
