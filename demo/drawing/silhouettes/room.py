"""For the room: cushions, seats, lamps, clocks, baskets and plants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..materials import mix
from ..mesh import TAU, ball, block, bow, disc, lathe, patch, resample, smooth, tube
from .common import every, leg, of, plain, vessel, wear

# Coordinates are easier to read in rows.
# fmt: off


def cushion(form, skin, trim):
    width, height = {"square": (45, 45), "lumbar": (60, 36), "round": (44, 44)}[form]
    if form == "round":
        # A button in the middle gathers the cloth into folds.
        r, a = np.linspace(1, 0.002, 40)[:, None], np.linspace(0, TAU, 161)[None, :]
        folds = 0.55 * np.cos(22 * a) * np.exp(-(((r - 0.25) / 0.22) ** 2))
        z = 10.5 * (1 - r**2.6) ** 0.55 - 6.5 * np.exp(-((r / 0.16) ** 2)) + folds
        face = np.stack(np.broadcast_arrays(22 * r * np.cos(a), 22 * r * np.sin(a), z), 2)
        front = patch(face, closed=True).flat_uv("xy")
        back = patch(face * [1, 1, -1], closed=True).flat_uv("xy")
        a = np.linspace(0, TAU, 97)
        rim = np.stack([22 * np.cos(a), 22 * np.sin(a), 0 * a], 1)
        button = ball(4.6, 4.6, 2.2).moved(0, 0, 5.0)
        piping = tube(rim, 1.3, around=10, close=False)
        parts = [front.wearing(skin), back.wearing(plain(skin)), button.wearing(trim),
                 piping.wearing(trim)]
        return every(parts, lambda p: p.turned("x", -13))
    t = np.sin(np.linspace(-1, 1, 61) * np.pi / 2)
    s, u = np.meshgrid(t, t)
    # Sides pull in between the corners, and the cloth creases towards them.
    x = width / 2 * s * (1 - 0.07 * (1 - u**2))
    y = height / 2 * u * (1 - 0.07 * (1 - s**2))
    plump = np.clip((1 - s**2) * (1 - u**2), 0, 1) ** 0.52
    crease = np.sin(9 * np.arctan2(u, s) + 3 * s) * np.hypot(s, u) ** 3 * 0.6
    z = 11.5 * plump + crease * np.clip(plump * 3, 0, 1)
    front = patch(np.stack([x, y, z], 2)).flat_uv("xy")
    back = patch(np.stack([x, y, -z], 2)).flat_uv("xy")
    edge = np.concatenate([
        np.stack([x[0], y[0]], 1)[:-1], np.stack([x[:, -1], y[:, -1]], 1)[:-1],
        np.stack([x[-1], y[-1]], 1)[::-1][:-1], np.stack([x[:, 0], y[:, 0]], 1)[::-1],
    ])
    edge = resample(edge, 160)
    piping = tube(np.c_[edge, 0 * edge[:, 0]], 1.1, around=10, close=False)
    parts = [front.wearing(skin), back.wearing(plain(skin)), piping.wearing(trim)]
    return every(parts, lambda p: p.turned("x", -13))


def chair(form, skin, trim):
    parts = []
    if form == "shell":
        # One bent shell for seat and back, on four splayed legs.
        t = np.linspace(0, 1, 40)
        line = resample(smooth([(20, 44.5), (18, 46), (0, 44), (-17, 44.5), (-22, 52), (-25, 82)],
                               4), 40)
        half = 22 + 2.5 * np.sin(t * np.pi) - 5.5 * t**3
        s = np.linspace(-1, 1, 33)
        curl = 5.0 * np.clip(t - 0.02, 0, 1)[:, None] ** 0.6 * np.abs(s)[None, :] ** 2.6
        slope = np.gradient(line, axis=0)
        slope /= np.linalg.norm(slope, axis=1, keepdims=True)
        lift = np.stack([slope[:, 1], -slope[:, 0]], 1)  # towards the sitter
        round_end = np.sqrt(np.clip(1 - np.abs(2 * t - 1) ** 9, 0.02, 1))

        def layer(thick):
            z = line[:, :1] + lift[:, :1] * (curl + thick)
            y = line[:, 1:] + lift[:, 1:] * (curl + thick)
            return np.stack([half[:, None] * round_end[:, None] * s[None, :], y, z], 2)

        front, back = patch(layer(0.9)), patch(layer(-0.9))
        rim = np.concatenate([layer(0)[:, 0], layer(0)[-1, 1:-1], layer(0)[::-1, -1],
                              layer(0)[0, ::-1][1:]])
        parts += [front.wearing(skin), back.wearing(plain(skin))]
        parts.append(tube(resample(rim, 160), 1.9, around=10, up=(0.3, 0.5, 1),
                          close=False).wearing(plain(skin)))
        for sx in (-1, 1):
            parts.append(leg((sx * 12, 44, 11), (sx * 21, 0, 19)).wearing(trim))
            parts.append(leg((sx * 12, 44, -12), (sx * 20, 0, -22)).wearing(trim))
        return parts
    # A seat on a wooden frame.
    seat = every(block(46, 6, 43, 8, 2.4, 1.6), lambda p: p.moved(0, 43, 0))
    parts += wear(seat, skin)
    for sx in (-1, 1):
        parts.append(leg((sx * 19, 43.5, 17), (sx * 20, 0, 19), 4.2, 2.6).wearing(trim))
        post = resample(smooth([(sx * 20, 0, -22), (sx * 19, 44, -18), (sx * 19, 60, -19),
                                (sx * 18.5, 88, -26)], 3), 30)
        parts.append(tube(post, (3.4, 3.4), around=14).wearing(trim))
        rail = np.linspace((sx * 19, 40.5, 17), (sx * 19, 40.5, -18), 6)
        parts.append(tube(rail, (3.6, 2.2), up=(1, 0, 0), power=4).wearing(trim))
    front_rail = np.linspace((-18, 41, 17), (18, 41, 17), 6)
    parts.append(tube(front_rail, (4.0, 2.0), power=4).wearing(trim))
    if form == "ladder":
        for y, z in ((60, -19.5), (70, -21.5), (80, -24)):
            slat = bow((-18.5, y, z), (18.5, y, z), (0, 0, -3.2))
            parts.append(tube(slat, (5.2, 1.5), power=4).wearing(trim))
    else:
        back = every(block(40, 24, 5.5, 2.6, 2.4, 1.2),
                     lambda p: p.turned("x", -13).moved(0, 62, -20))
        parts += wear([back[0].flat_uv("xy"), *back[1:]], skin)
    return parts


def armchair(form, skin, trim):
    parts = []
    base = {"cube": 10, "club": 12, "wing": 14}[form]

    def part(size, at, corner=5, edge=3.5, puff=1.5, tip=0.0):
        made = every(block(*size, corner, edge, puff), lambda p: p.turned("x", tip).moved(*at))
        return wear([made[0].flat_uv("xy"), *made[1:]], skin)

    parts += part((62, 16, 66), (0, base, 0))
    parts += part((54, 15, 58), (0, base + 14, 5), 6, 5, 3)
    tall = {"cube": 44, "club": 46, "wing": 66}[form]
    parts += part((66, tall, 16), (0, base + 12, -27), 6, 5, 3, -9)
    if form == "wing":
        for sx in (-1, 1):
            parts += part((11, 40, 34), (sx * 32, base + 33, -18), 5, 4.5, 1)
    if form != "wing":
        parts += part((50, 28, 13), (0, base + 27, -17), 6, 5, 4, -13)
    for sx in (-1, 1):
        arm = 30 if form == "cube" else 34
        if form == "club":  # rolled arms
            roll = np.linspace((sx * 36, base + 33, -32), (sx * 36, base + 33, 35), 24)
            parts.append(tube(roll, (17, 17), around=30, up=(0, 1, 0), power=2.2).wearing(skin))
            arm = 28
        parts += part((14, arm, 68), (sx * 36, base, 0), 5, 4.5, 1.2)
    for sx in (-1, 1):
        for z in (-27, 27):
            parts.append(leg((sx * 34, base + 1, z), (sx * 35, 0, z * 1.03), 4.6,
                             3.0).wearing(trim))
    return parts


LAMP_FEET = {
    "ball": [(0, 0), (7, 0), (7, 0), (7, 1.2), (4, 1.8), (6.4, 4), (9.6, 10), (8.8, 16), (4, 20),
             (1.6, 21),
             (1.2, 24)],
    "gourd": [(0, 0), (6.5, 0), (6.5, 0), (8.6, 2), (9.4, 7), (6, 12), (4.4, 14), (5.8, 18),
              (5, 22), (1.5, 24.5),
              (1.2, 26)],
    "stem": [(0, 0), (9.4, 0), (9.4, 0), (9.4, 1.4), (9, 2), (1.6, 2.6), (1.1, 4), (1.1, 20),
             (1.1, 27)],
    "cone": [(0, 0), (8.6, 0), (8.6, 0), (9, 0.8), (8, 4), (4.5, 14), (1.8, 22), (1.2, 25)],
}


def lamp(form, skin, trim):
    foot = np.array(LAMP_FEET[form])
    top = foot[-1, 1]
    parts = [lathe(smooth(foot, 3)).wearing(skin)]
    neck = [(1.0, top - 1), (1.0, top + 3.4), (1.0, top + 3.5), (0, top + 3.6)]
    parts.append(lathe(smooth(neck, 1)).wearing(of("polished", "brass")))
    low, high, bottom, upper = {
        "ball": (15, 10, 2, 21), "gourd": (14, 12.5, 2, 20),
        "stem": (14, 8, 0, 18), "cone": (15, 9, 1, 19),
    }[form]
    shade = np.linspace((low, top + bottom), (high, top + upper), 16)
    parts.append(lathe(shade, 72).wearing(replace(trim, glow=0.30)))
    parts.append(lathe(shade - [0.25, 0], 72).wearing(of("paper", "glow", glow=0.75)))
    a = np.linspace(0, TAU, 73)
    for radius, y in ((low, top + bottom), (high, top + upper)):
        ring = np.stack([radius * np.cos(a), np.full(73, y), radius * np.sin(a)], 1)
        parts.append(tube(ring, 0.55, up=(0, 1, 0), around=8, close=False).wearing(trim))
    parts.append(ball(5, 6, 5).moved(0, top + 8, 0).wearing(of("paper", "glow", glow=2)))
    return parts


def clock(form, skin, trim):
    r = 14
    rim = {
        "slim": [(r - 0.2, 1.2), (r - 0.2, 2.6), (r, 3), (r + 0.6, 3), (r + 0.9, 2.6), (r + 0.9, 0),
                 (0, 0)],
        "deep": [(r - 0.4, 1.2), (r - 0.2, 3.4), (r + 0.4, 4.2), (r + 1.8, 4.0), (r + 2.2, 2),
                 (r + 2, 0), (0, 0)],
        "twin": [(r - 0.2, 1.2), (r, 2.4), (r + 0.8, 3.6), (r + 1.6, 3.6), (r + 2.4, 2.4),
                 (r + 2.2, 0), (0, 0)],
    }[form]
    parts = [lathe(smooth(rim, 3), 96).wearing(trim), disc(r, 1.2).wearing(skin)]
    deep = skin.colours[0] in ("charcoal", "black", "navy", "forest")
    ink = of("painted metal", "linen" if deep else "charcoal")
    for hour in range(12):
        long = 2.4 if hour % 3 == 0 else 1.3
        if form == "twin" and hour % 3:
            mark = ball(0.9, 0.3, 0.9).moved(0, 1.3, -(r - 2.4))
        else:
            mark = tube(np.linspace((0, 1.3, -(r - 1.6)), (0, 1.3, -(r - 1.6 - long)), 5),
                        (0.62, 0.24),
                        up=(0, 1, 0), power=4)
        parts.append(mark.turned("y", hour * 30).wearing(ink))
    for angle, long, wide, y in ((-304, 7.2, 0.95, 1.7), (-54, 10.6, 0.68, 2.0)):
        hand = tube(np.linspace((0, y, 1.8), (0, y, -long), 8), (wide, 0.22), up=(0, 1, 0), power=3)
        parts.append(hand.turned("y", angle).wearing(ink))
    hand = tube(np.linspace((0, 2.3, 3), (0, 2.3, -10.8), 6), (0.22, 0.15), up=(0, 1, 0))
    parts.append(hand.turned("y", -150).wearing(of("painted metal", "poppy")))
    parts.append(ball(1.3, 0.9, 1.3).moved(0, 2.3, 0).wearing(ink))
    parts = every(parts, lambda p: p.turned("x", 83).moved(0, 17, 0))
    if form == "twin":  # an alarm clock: bells, hammer and feet
        for sx in (-1, 1):
            bell = lathe(smooth([(0, 3.4), (2, 3.3), (4, 2), (4.6, 0), (4.4, 0)], 3))
            parts.append(bell.turned("z", -sx * 34).moved(sx * 9.4, 31, -1).wearing(trim))
            parts.append(leg((sx * 9, 5, -1), (sx * 12, 0, 0), 2.2, 1.4).wearing(trim))
        arch = bow((-7, 32, -1), (7, 32, -1), (0, 7.5, 0))
        parts.append(tube(arch, 0.7, around=10).wearing(trim))
    return parts


def basket(form, skin, trim):
    line = {
        "belly": [(0, 0), (13, 0), (13, 0), (15, 1), (19.5, 12), (18, 24), (15.5, 30), (16, 32)],
        "drum": [(0, 0), (15.5, 0), (15.5, 0), (16.5, 1), (17, 14), (17.5, 26), (17.6, 28)],
        "tray": [(0, 0), (17, 0), (17, 0), (18.5, 0.8), (20, 5), (21, 10), (21.2, 11)],
    }[form]
    outside, inside = vessel(line, 0.9)
    rim, top = line[-1]
    a = np.linspace(0, TAU, 97)
    ring = np.stack([(rim - 0.4) * np.cos(a), np.full(97, top), (rim - 0.4) * np.sin(a)], 1)
    parts = [
        lathe(outside).wearing(skin),
        lathe(inside).wearing(plain(skin)),
        tube(ring, 2.0, up=(0, 1, 0), around=12, close=False).wearing(trim),
    ]
    for sx in (-1, 1):
        grip = bow((sx * rim, top - 1, -5.5), (sx * rim, top - 1, 5.5), (sx * 2.5, 8.5, 0))
        parts.append(tube(grip, 1.7, around=12, up=(1, 0.2, 0)).wearing(trim))
    return parts


def leaf(path, widths, fold=0.25, cup=(0, 1, 0)):
    """A blade along a path: folded at the midrib."""
    path = np.asarray(path, float)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, cup)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
    rise = np.cross(side, along)
    s = np.linspace(-1, 1, 9)[None, :, None]
    w = np.asarray(widths, float)[:, None, None]
    folded = rise[:, None] * np.abs(s) ** 1.3 * w * fold
    return patch(path[:, None] + side[:, None] * s * w + folded)


POTS = [(0, 0), (5.2, 0), (5.2, 0), (5.7, 0.4), (6.6, 5), (7.3, 11), (7.5, 12.5)]


def plant(form, skin, trim):
    outside, inside = vessel(POTS, 0.6)
    parts = [lathe(outside).wearing(skin), lathe(inside).wearing(plain(skin))]
    parts.append(disc(6.9, 11.2, 0.4).wearing(of("soil", "soil")))
    dish = smooth([(0, 0), (7.4, 0), (7.4, 0), (8, 1.3), (7.7, 1.4), (7.1, 0.5), (5, 0.4)], 2)
    parts.append(lathe(dish).wearing(plain(skin)))
    rng = np.random.default_rng({"rubber": 3, "snake": 4, "fern": 5, "cactus": 6, "aloe": 7}[form])
    t = np.linspace(0, 1, 22)
    green = trim.colours[0]
    tones = [mix(green, "forest", 0.35), green, mix(green, "mustard", 0.22)]

    def skin_of(number, material="leaf"):
        return of(material, tones[number % 3])

    if form == "cactus":
        body = smooth([(0, 10), (4.6, 10), (5.6, 14), (5.4, 24), (3.6, 29.5), (0, 30.5)], 4)
        parts.append(lathe(resample(body, 60), ribs=14, rib_depth=0.9).wearing(skin_of(1, "felt")))
        arm = smooth([(4, 17, 0), (9, 17, 1), (10, 19, 1), (10, 25, 1)], 4)
        parts.append(tube(resample(arm, 30), 4.6, around=20).wearing(skin_of(0, "felt")))
        parts.append(ball(4.6, 4.6, 4.6).moved(10, 25, 1).wearing(skin_of(0, "felt")))
        for k in range(7):
            petal = ball(0.9, 3.2, 1.6).turned("x", 38).turned("y", k * 360 / 7)
            parts.append(petal.moved(0, 31.2, 0).wearing(of("leaf", "blush")))
    elif form == "snake":
        for k in range(11):
            a, r = k * 2.4, 1.0 + 3.4 * (k / 11)
            tall, lean = rng.uniform(18, 32) - r, rng.uniform(0.08, 0.2) * (1 + r / 3)
            out = np.array([np.cos(a), 0, np.sin(a)])
            path = out * (r + lean * tall * t[:, None] ** 1.6) + np.c_[0 * t, 11 + tall * t, 0 * t]
            wide = 1.9 * np.clip(np.sin((0.18 + 0.82 * t) * np.pi), 0, 1) ** 0.55
            blade = leaf(path, wide, 0.35, cup=-out)
            parts.append(blade.wearing(skin_of(k)))
            for sx in (-1, 1):
                edge = leaf(path + np.cross(out, (0, 1, 0)) * sx * wide[:, None] * 0.9, wide * 0.12,
                            0, cup=-out)
                pale = of("leaf", mix(green, "mustard", 0.7))
                parts.append(edge.moved(*(out * -0.46)).wearing(pale))
    elif form == "aloe":
        for k in range(20):
            a, ring = k * 2.4, k / 20
            out = np.array([np.cos(a), 0, np.sin(a)])
            long = 15 - 6 * (1 - ring)
            up = 1.25 - 0.95 * ring
            path = out * (1 + long * 0.75 * t[:, None]) + np.c_[
                0 * t, 11.4 + long * up * t - 2.4 * ring * t**2, 0 * t]
            wide = 2.0 * (1 - t) ** 0.75 + 0.03
            parts.append(leaf(path, wide, 0.55).wearing(skin_of(k)))
    elif form == "fern":
        for k in range(24):
            a = k * 2.4
            long, rise = rng.uniform(13, 19), rng.uniform(9, 17)
            out = np.array([np.cos(a), 0, np.sin(a)])
            y = 11.4 + rise * np.sin(t * 2.3) - 2 * t
            path = out * (1 + long * t[:, None] ** 1.1) + np.c_[0 * t, y, 0 * t]
            parts.append(tube(path, 0.3, around=6, up=(0.1, 0.9, 0.2)).wearing(skin_of(0)))
            side = np.cross(out, (0, 1, 0))
            for j in range(3, 21):
                for sx in (-1, 1):
                    span = 3.3 * np.sin((0.12 + 0.86 * j / 21) * np.pi) ** 0.8
                    u = np.linspace(0, 1, 5)[:, None]
                    droop = u**2 * span * np.array([0, 0.22, 0])
                    tip = path[j] + u * span * (side * sx + out * 0.45) - droop
                    parts.append(leaf(tip, 0.62 * np.sin((0.1 + 0.88 * u[:, 0]) * np.pi),
                                      0.1).wearing(skin_of(k)))
    else:  # a rubber plant: large glossy leaves around a stem
        stem = resample(smooth([(0, 11, 0), (0.6, 18, 0), (-0.4, 26, 0), (0.3, 35, 0)], 3), 20)
        parts.append(tube(stem, 0.9, around=10).wearing(of("leaf", mix(green, "brown", 0.5))))
        for k in range(13):
            a = k * 2.4 + 0.5
            y = 15 + 20.5 * k / 12
            out = np.array([np.cos(a), 0, np.sin(a)])
            long = rng.uniform(11.5, 14) * (1.08 - 0.4 * k / 12)
            droop, rise = rng.uniform(2, 6.0) * (1.1 - k / 12), rng.uniform(4.5, 7) + 3 * (k / 12)
            path = np.c_[0 * t, y + rise * t - droop * t**2, 0 * t]
            path = path + out * (0.5 + long * t[:, None])
            blade = np.clip((t - 0.2) / 0.8, 0, 1)
            wide = 0.18 + 3.5 * np.sin(blade**0.8 * np.pi) ** 0.75
            parts.append(leaf(path, wide, 0.22).wearing(skin_of(k)))
    return parts
