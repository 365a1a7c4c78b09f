"""To carry along: bags, notebooks and soft toys."""

from __future__ import annotations

import numpy as np

from ..materials import mix
from ..mesh import TAU, ball, block, bow, capped, disc, lathe, loft, patch, resample, smooth, tube
from .common import box_ring, every, moved, of, plain, ribbon_along, wear

# Coordinates are easier to read in rows.
# fmt: off


def handbag(form, skin, trim):
    brass = of("polished", "brass")
    parts = []
    if form == "bucket":
        line = smooth([(0, 0), (9, 0), (9, 0), (9.6, 0.8), (10.6, 12), (10.2, 20), (9.8, 22)], 3)
        body = lathe(line)
        around = np.arctan2(body.points[:, 0], body.points[:, 2])
        ruffle = 0.03 * np.sin(7 * around) * (body.points[:, 1] / 22) ** 4
        body.points[:, [0, 2]] *= 1 + ruffle[:, None]
        dark = plain(skin, mix(skin.colours[0], "black", 0.6))
        parts += [body.wearing(skin), disc(9.7, 20, -2).wearing(dark)]
        a = np.linspace(0, TAU, 80)
        for y, r, size in ((18.6, 10.55, 0.5), (22, 9.8, 0.6)):
            cord = np.stack([r * np.cos(a), np.full(80, y), r * np.sin(a)], 1)
            parts.append(tube(cord, size, up=(0, 1, 0), around=10, close=False).wearing(trim))
        for k in (-1, 1):
            end = bow((k * 0.7, 18.6, 10.8), (k * 2.3, 10.5, 12.0), (k * 0.8, 0, 0.8))
            parts.append(tube(end, 0.5, around=10).wearing(trim))
            parts.append(ball(1.3, 1.7, 1.3).moved(k * 2.3, 10, 12).wearing(brass))
        strap = bow((-9.9, 20, 0), (9.9, 20, 0), (0, 19, 0), 60)
        parts.append(tube(strap, (1.9, 0.45), power=4, up=(0, 1, 0.05)).wearing(trim))
        return parts
    if form == "tote":
        heights = np.linspace(0, 1, 20)
        rings = [box_ring(34 + 5 * h, 13 - 4 * h**2, 0.3 + 31 * h, 5) for h in heights]
        foot = [box_ring(33.4 * k, 12.4 * k, 0.0, 5) for k in (0.01, 0.6, 0.97)]
        body = loft(foot + rings)
        parts.append(body.wearing(skin))
        inner = [r * [0.985, 1, 0.95] for r in rings[::-1]]
        parts.append(loft(inner).wearing(plain(skin, mix(skin.colours[0], "brown", 0.5))))
        rim = tube(rings[-1], (0.9, 0.9), up=(0, 1, 0), around=8, close=False)
        parts.append(rim.wearing(trim))
        for z, lift in ((4.7, 0), (-4.7, 0.8)):
            arch = [(-8, 21, z + 0.75), (-8, 31, z + 0.2), (-7, 44 + lift, z * 0.8),
                    (0, 49 + lift, z * 0.7),
                    (7, 44 + lift, z * 0.8), (8, 31, z + 0.2), (8, 21, z + 0.75)]
            path = resample(smooth(arch, 4), 70)
            if z < 0:
                path = path[14:-14]
            parts.append(tube(path, (2.0, 0.5), power=4, around=16).wearing(trim))
        for x in (-8, 8):
            parts.append(ball(1.1, 1.1, 0.5).moved(x, 23, 5.95).wearing(brass))
        return parts
    # A structured bag with a flap; "saddle" is round below.
    saddle = form == "saddle"
    width, tall, depth = (25, 20, 8) if saddle else (29, 20, 11)
    t = np.linspace(0, 1, 22)
    rings = []
    for h in t:
        if saddle:
            w = width * (0.45 + 0.55 * np.sqrt(np.clip(1 - (1 - h) ** 2.6, 0, 1)))
            d = depth * (0.55 + 0.45 * np.sin(np.pi * (0.15 + 0.75 * h)))
        else:
            w, d = width - 3.5 * h, depth - 4.5 * h
        rings.append(box_ring(w, d, tall * h, 4.5))
    parts.append(loft(capped(rings)).wearing(skin))
    # The flap: over the top, down the front, its lower edge rounded.
    s = np.linspace(-1, 1, 41)
    u = np.linspace(0, 1, 30)
    top_w, top_d = rings[-1][:, 0].max(), rings[-1][:, 2].max()
    grid = np.zeros((30, 41, 3))
    drop = (11.5 if saddle else 9.5) * (1 - 0.32 * np.abs(s) ** 3.2)
    for i, k in enumerate(u):
        over = np.clip(k / 0.3, 0, 1)  # first across the top ...
        down = np.clip((k - 0.3) / 0.7, 0, 1)  # ... then down
        y = tall + 0.12 + 0.8 * np.sin(np.pi * over) - drop * down
        front = np.interp(y, t * tall, [r[:, 2].max() for r in rings])
        z = -top_d + over * 2 * top_d
        z = np.where(down > 0, front + 0.55 + 0.1 * np.sin(np.pi * down), z)
        w = np.interp(y, t * tall, [r[:, 0].max() for r in rings]) * 0.97
        w = w * (1 - 0.10 * ((1 - down) ** 10 if down > 0 else np.abs(2 * over - 1) ** 6))
        bulge = -0.5 * np.abs(s) ** 6
        grid[i] = np.stack([s * np.minimum(w, top_w * 1.12), np.broadcast_to(y, 41), z + bulge], 1)
    flap = patch(grid)
    flap.uv[:] = np.stack([grid[..., 0].ravel(), grid[..., 1].ravel()], 1)
    parts.append(flap.wearing(skin if saddle else plain(skin)))
    edge = np.concatenate([grid[11:, 0], grid[-1, 1:-1], grid[11:, -1][::-1]])
    parts.append(tube(resample(edge, 90), 0.42, around=8, up=(0.05, 0.1, 1),
                      close=False).wearing(trim))
    lock_y = tall + 0.5 - drop[20]
    plate_ = every(block(3.0, 0.5, 2.4, 0.7, 0.18),
                   lambda p: p.turned("x", 90).moved(0, lock_y + 0.9, grid[-1, 20, 2]))
    parts += wear(plate_, brass)
    parts.append(ball(1.0, 1.0, 0.8).moved(0, lock_y + 0.9, grid[-1, 20, 2] + 0.6).wearing(brass))
    if saddle:
        arch = [(-10.6, 18, 0), (-12, 24, -0.5), (-8.5, 36, -1), (0, 42, -1), (8.5, 36, -1),
                (12, 24, -0.5), (10.6, 18, 0)]
        parts.append(tube(resample(smooth(arch, 4), 80), (1.5, 0.45), power=4,
                          up=(0, 0, 1)).wearing(trim))
    else:
        arch = [(-6.5, 20.4, 0), (-6.8, 25, 0), (-4.5, 30, 0), (0, 31, 0), (4.5, 30, 0),
                (6.8, 25, 0), (6.5, 20.4, 0)]
        parts.append(tube(resample(smooth(arch, 4), 60), (1.5, 1.3), around=16).wearing(trim))
    for sx in (-1, 1):
        x = sx * (10.6 if saddle else 6.5)
        b = np.linspace(0, TAU, 40)
        ring = np.stack([x + 1.0 * np.cos(b), (18 if saddle else 21) + 1.2 * np.sin(b),
                         0.4 + 0 * b], 1)
        parts.append(tube(ring, 0.34, around=8, close=False).wearing(brass))
    return parts


def backpack(form, skin, trim):
    parts = []
    width, tall, depth = {"classic": (30, 41, 15), "roll-top": (29, 43, 14),
                          "small": (26, 32, 13)}[form]
    t = np.linspace(0, 1, 30)
    rings = []
    for h in t:
        if form == "roll-top":
            w = width * (1 - 0.05 * h)
            d = depth * np.interp(h, [0, 0.1, 0.7, 0.93, 1], [0.9, 1, 0.85, 0.35, 0.3])
        else:
            dome = np.sqrt(np.clip(1 - np.clip((h - 0.62) / 0.38, 0, 1) ** 2.4, 0.02, 1))
            w, d = width * (0.30 + 0.70 * dome), depth * (0.35 + 0.65 * dome)
        foot = 0.90 + 0.10 * np.clip(h * 8, 0, 1) ** 0.5
        bulge = 1 + 0.04 * np.sin(np.pi * h)
        rings.append(box_ring(w * foot, d * foot * bulge, tall * h, 3.6))
    body = loft(capped(rings))
    parts.append(body.wearing(skin))

    def front_z(y):
        return np.interp(y, t * tall, [r[:, 2].max() for r in rings])

    leather = trim
    # Front pocket with its flap and buckle.
    pw, ph = width * 0.72, tall * 0.36
    pocket = every(block(pw, ph, 6.5, 2.6, 2.2, 1.0),
                   lambda p: p.moved(0, 2.5, front_z(ph / 2) - 0.6))
    parts += wear([pocket[0].flat_uv("xy"), *pocket[1:]], skin)
    z = front_z(ph / 2) + 2.75
    seam = np.array([(-pw / 2 + 1.0, ph - 1.2, z - 0.5), (-pw / 2 + 1.6, ph - 2, z + 0.15),
                     (0, ph - 2.2, z + 0.7),
                     (pw / 2 - 1.6, ph - 2, z + 0.15), (pw / 2 - 1.0, ph - 1.2, z - 0.5)])
    parts.append(tube(resample(smooth(seam, 3), 40), (0.9, 0.4),
                      around=8).wearing(of("nylon", "charcoal")))
    tag = every(block(4.4, 0.3, 2.6, 0.4, 0.1),
                lambda p: p.turned("x", 90).moved(0, ph * 0.5, z + 0.75))
    parts += wear(tag, leather)
    pull = tube(np.linspace((pw / 2 - 3, ph - 2.2, z + 0.5), (pw / 2 - 3, ph - 5.2, z + 0.8), 6),
                (0.8, 0.4), power=4)
    parts.append(pull.wearing(leather))
    if form == "roll-top":
        roll = np.linspace((-13.4, tall - 0.5, 0), (13.4, tall - 0.5, 0), 24)
        parts.append(tube(roll, (6.0, 5.2), around=24, power=2.3).wearing(skin))
        for x in (-7, 7):
            path = [(x, tall + 2.4, -2), (x, tall + 2.6, 1.2), (x, tall - 1.5, 3.4),
                    (x, tall * 0.78, front_z(tall * 0.78) + 0.4),
                    (x, tall * 0.52, front_z(tall * 0.52) + 0.5)]
            path = resample(smooth(path, 3), 40)
            parts += wear(ribbon_along(path, np.full(40, 2.2), 0.4), leather)
            buckle = every(block(3.2, 0.5, 2.4, 0.4, 0.15), lambda p: p.turned("x", 90))
            y = tall * 0.62
            parts += wear(moved(buckle, x, y, front_z(y) + 0.5), of("polished", "brass"))
    else:
        # The main zip runs over the dome.
        arc = [np.array([sx * (rings[i][:, 0].max() * 0.93), tall * t[i],
                         rings[i][:, 2].max() * 0.80])
               for sx, order in ((-1, range(13, 29)), (1, range(28, 12, -1)))
               for i in order]
        parts.append(tube(resample(smooth(arc, 2), 90), (0.8, 0.8), around=8,
                          up=(0, 0.3, 1)).wearing(of("nylon", "charcoal")))
        for sx in (-1, 1):
            side = moved(block(4.5, tall * 0.3, 9, 2, 1.6, 0.5), sx * width * 0.475, 2)
            parts += wear(side, leather if form == "classic" else plain(skin))
    rise = 8 if form == "roll-top" else 5.5
    grip = bow((-4, tall - 0.6, -1.5), (4, tall - 0.6, -1.5), (0, rise, 0))
    parts.append(tube(grip, (1.7, 0.9), around=14, power=3).wearing(leather))
    for sx in (-1, 1):
        path = [(sx * 5, tall - 2, -depth / 2 + 1), (sx * 11, tall - 1, -depth / 2 - 5),
                (sx * 16, tall * 0.6, -depth / 2 - 6),
                (sx * 15, tall * 0.25, -depth / 2 - 3), (sx * 11, 2.5, -depth / 2 + 1)]
        parts.append(tube(resample(smooth(path, 4), 50), (5, 1.2), power=3,
                          up=(0.3, 0, 1)).wearing(plain(skin)))
    return parts


def notebook(form, skin, trim):
    """Lying on the table; drawn flat in the x-z plane."""
    w, d, thick = {"pocket": (10.5, 16, 1.6), "large": (17, 23, 1.9), "spiral": (15, 21, 1.5)}[form]
    parts = []
    pages = moved(block(w - 0.6, thick - 0.4, d - 0.6, 0.3, 0.05), 0.05, 0.2)
    parts += wear(pages, of("paper", "linen"))
    for y in (0, thick - 0.24):
        cover = moved(block(w, 0.24, d, 0.9, 0.11), y=y)
        parts += wear([cover[0]] + [p.flat_uv("xz") for p in cover[1:]], skin)
    if form == "spiral":
        a = np.linspace(0, TAU, 24)
        for z in np.linspace(-d / 2 + 1, d / 2 - 1, 19):
            ring = np.stack([-w / 2 + 0.1 + 0.75 * np.cos(a), thick / 2 + 1.0 * np.sin(a),
                             z + 0.1 * np.sin(a / 2)], 1)
            parts.append(tube(ring, 0.16, around=8, up=(0, 0.1, 1),
                              close=False).wearing(of("polished", "steel")))
    else:
        spine = tube(np.linspace((-w / 2, thick / 2, -d / 2 + 0.15),
                                 (-w / 2, thick / 2, d / 2 - 0.15), 8),
                     (0.7, thick), up=(0, 1, 0), power=4)
        parts.append(spine.wearing(plain(skin)))
        x = w / 2 - 1.5
        band = [(x, 0.1, -d / 2 - 0.12), (x, thick + 0.06, -d / 2 - 0.1),
                (x, thick + 0.08, -d / 2 + 1), (x, thick + 0.08, d / 2 - 1),
                (x, thick + 0.06, d / 2 + 0.1), (x, 0.1, d / 2 + 0.12)]
        parts += wear(ribbon_along(resample(np.array(band), 60), np.full(60, 0.62), 0.1), trim)
        mark = [(-1.5, thick * 0.6, d / 2 - 1), (-1.5, thick * 0.5, d / 2 + 1),
                (-1.2, 0.1, d / 2 + 3), (-1.0, 0.1, d / 2 + 4.5)]
        parts += wear(ribbon_along(resample(smooth(mark, 3), 30), np.full(30, 0.5), 0.06), trim)
    label = every(block(w * 0.5, 0.05, d * 0.16, 0.2, 0.02), lambda p: p.moved(0, thick, -d * 0.2))
    parts += wear(label, of("paper", "linen"))
    for k, long in enumerate((0.34, 0.24)):
        x = np.linspace(-w * long / 2, w * long / 2, 4)
        line = np.stack([x, np.full(4, thick + 0.06), np.full(4, -d * 0.215 + k * d * 0.045)], 1)
        parts.append(tube(line, (0.16, 0.04), up=(0, 1, 0),
                          around=6).wearing(of("paper", "charcoal")))
    # A pencil beside it gives the eye a size.
    z = np.linspace(-d * 0.36, d * 0.30, 8)
    x = w / 2 + 1.9
    stick = np.stack([np.full(8, x), np.full(8, 0.38), z], 1)
    parts.append(tube(stick, 0.76, around=12).wearing(of("wood", trim.colours[0])))
    tip = np.stack([np.full(8, x), np.full(8, 0.38), np.linspace(z[0], z[0] - 1.8, 8)], 1)
    parts.append(tube(tip, np.linspace(0.72, 0.06, 8)[:, None] * [1, 1],
                      around=12).wearing(of("wood", "oak")))
    return parts


def bear(form, skin, trim):
    """A soft toy made of balls: a bear, a bunny or an elephant."""
    pale = plain(skin, mix(skin.colours[0], "ivory", 0.65))
    cloth = plain(skin)
    parts = [ball(17, 19, 14.5).moved(0, 9.5, 0).wearing(cloth)]
    parts.append(ball(11, 12.5, 5).moved(0, 8.8, 5.4).wearing(pale))
    head_y = 24
    parts.append(ball(15.5, 14, 13.5).moved(0, head_y, 0.8).wearing(cloth))
    for sx in (-1, 1):
        arm = tube(resample(smooth([(sx * 6.5, 15.5, 1), (sx * 10.5, 11.5, 3),
                                    (sx * 10.2, 7.5, 5.5)], 3), 20), 5.2, around=22)
        parts.append(arm.wearing(cloth))
        parts.append(ball(5.4, 5.4, 5.4).moved(sx * 10.2, 7.3, 5.6).wearing(cloth))
        limb = tube(np.linspace((sx * 5.2, 3.4, 2), (sx * 8.4, 3.2, 11.5), 14), 6.4, around=24,
                    up=(0, 1, 0))
        parts.append(limb.wearing(cloth))
        parts.append(ball(7.0, 7.4, 4.6).moved(sx * 8.6, 3.6, 11.8).wearing(cloth))
        parts.append(ball(4.6, 5.0, 1.6).moved(sx * 8.8, 3.7, 13.6).wearing(pale))
        eye = of("porcelain", "black")
        parts.append(ball(1.35, 1.5, 1.0).moved(sx * 2.9, head_y + 1.2, 7.1).wearing(eye))
        if form == "bunny":
            swell = np.sin(np.linspace(0.35, 2.75, 20))[:, None]
            ear = tube(resample(smooth([(sx * 3, 29, 0), (sx * 4.2, 35, -0.4),
                                        (sx * 4.8, 42, -1.2)], 3), 20),
                       swell * [4.6, 2.4], around=20)
            parts.append(ear.wearing(cloth))
            lining = tube(resample(smooth([(sx * 3.2, 30.5, 0.9), (sx * 4.2, 35, 0.6),
                                           (sx * 4.7, 40.5, -0.2)], 3), 20),
                          swell * [2.7, 1.0], around=16)
            parts.append(lining.wearing(plain(skin, "blush")))
        elif form == "elephant":
            ear = ball(10.5, 11.5, 2.8, 2.2).turned("y", -sx * 24)
            parts.append(ear.moved(sx * 11, head_y + 0.5, -1.2).wearing(cloth))
            lining = ball(7.5, 8.5, 1.6).turned("y", -sx * 24)
            parts.append(lining.moved(sx * 11.1, head_y + 0.3, 0.1).wearing(pale))
        else:
            parts.append(ball(5.8, 5.8, 3.2).moved(sx * 6.2, head_y + 6.3, 0).wearing(cloth))
            parts.append(ball(3.6, 3.6, 1.4).moved(sx * 6.2, head_y + 6.2, 1.4).wearing(pale))
    if form == "elephant":
        trunk = resample(smooth([(0, head_y - 0.5, 6.5), (0, head_y - 3, 10), (0, head_y - 8, 10.2),
                                 (0.6, head_y - 10.5, 12.5)], 3), 24)
        parts.append(tube(trunk, np.linspace(5, 2.6, 24)[:, None] * [1, 1], around=22,
                          up=(1, 0, 0)).wearing(cloth))
    else:
        parts.append(ball(6.6, 5.2, 4.6).moved(0, head_y - 2.2, 6.4).wearing(pale))
        parts.append(ball(2.3, 1.6, 1.4).moved(0, head_y - 0.9,
                                               8.6).wearing(of("felt", "charcoal")))
    a = np.linspace(0, TAU, 60)
    scarf = np.stack([6.4 * np.cos(a), 17.6 + 0.5 * np.sin(a), 0.8 + 5.6 * np.sin(a)], 1)
    parts.append(tube(scarf, (2.2, 3.4), up=(0, 1, 0), around=18, close=False).wearing(trim))
    tail = [(2.2, 17, 6.6), (3.4, 13.5, 8.4), (3.8, 9.5, 8.9)]
    parts.append(tube(resample(smooth(tail, 3), 24), (3.2, 1.0), power=3).wearing(trim))
    return parts
