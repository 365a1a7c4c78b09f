"""To wear: t-shirts, sneakers, watches and hats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..materials import mix
from ..mesh import (
    TAU,
    ball,
    block,
    disc,
    lathe,
    loft,
    patch,
    resample,
    rotation,
    smooth,
    superellipse,
    tube,
)
from .common import every, of, plain, ribbon_along, wear

# Coordinates are easier to read in rows.
# fmt: off


def t_shirt(form, skin, trim):
    """Laid flat: drawn upright, then tipped over backwards."""
    half, long, cut, sleeve = {
        "crew": (25, 66, 8.0, 17), "boxy": (28, 60, 7.0, 19),
        "v-neck": (24.5, 67, 15.5, 16), "long": (25, 66, 8.0, 44),
    }[form]
    s = np.linspace(-1, 1, 81)[None, :]
    t = np.linspace(0, 1, 70)[:, None]
    neck = 9.2 / half

    def top(cut):
        shoulder = long - 6.5 * np.clip((np.abs(s) - neck) / (1 - neck), 0, 1)
        across = np.clip(np.abs(s) / neck, 0, 1)
        bend = (1 - across) if form == "v-neck" and cut > 6 else np.sqrt(1 - across**2)
        return shoulder - cut * bend

    def panel(cut, up):
        y = t * top(cut) - 1.0 * (1 - s**2) * (1 - t)
        x = s * half * (1 - 0.035 * np.sin(np.pi * np.clip(y / long, 0, 1)) + 0.05 * (1 - t) ** 4)
        x = x * (1 - 0.10 * np.clip((y - 0.62 * long) / (0.38 * long), 0, 1) ** 2)
        body = np.sqrt(np.clip(1 - np.abs(s) ** 3, 0, 1)) * np.clip((1 - t) * 9 + 0.35, 0, 1)
        folds = 0.42 * np.sin(x * 0.42 + y * 0.16 + 1.5 * np.sin(y * 0.11)) * np.clip(1.2 - t, 0, 1)
        pull = 0.5 * np.sin((np.abs(x) * 0.7 - y) * 0.42)
        folds = folds + pull * np.clip(np.abs(s) - 0.35, 0, 1) * t
        z = up * (2.2 * body) + (folds if up > 0 else 0 * folds) * np.sqrt(body)
        return np.stack(np.broadcast_arrays(x, y, z), 2)

    front, back = panel(cut, 1), panel(2.0, -0.15)
    parts = [patch(front).flat_uv("xy").wearing(skin),
             patch(back).flat_uv("xy").wearing(plain(skin))]
    inside = np.abs(np.linspace(-1, 1, 81)) <= neck * 1.02
    for panel_, lift in ((front, 0.25), (back, 0.15)):
        line = resample(panel_[-1, inside] + [0, -0.7, lift], 60)
        parts.append(tube(line, (2.3, 0.9), around=12, power=2.6, close=False).wearing(trim))
    # A sewn-in label at the back of the neck.
    label = np.stack([*np.meshgrid([-2, 0, 2], [-2.0, -0.6, 0.8]), np.full((3, 3), 0.55)], 2)
    parts.append(patch(label).moved(0, long - 4.6, 0).wearing(of("paper", "linen")))

    hem = front[0] + [0, 1.6, 0.12]
    parts.append(tube(hem[1:-1], 0.14, around=6,
                      close=False).wearing(plain(skin, mix(skin.colours[0], "black", 0.35))))
    shoulder = np.array([half * 0.90, long - 6.5])
    for sx in (-1, 1):
        # The sleeve leaves the shoulder seam outwards and down.
        down = 62 if form == "long" else 40
        way = np.array([np.cos(np.radians(down)), -np.sin(np.radians(down))])
        out = np.array([-way[1], way[0]])
        rows = []
        for k in np.linspace(0, 1, 36):
            wide = 19.5 - (9.5 if form == "long" else 3.2) * k
            middle = shoulder + way * (sleeve * k - 0.4) - out * (wide / 2 + 0.25)
            ring = superellipse(wide, 3.6 - 0.8 * k, 2.6, 44)
            ripple = 0.3 * np.sin(ring[:, 0] * 0.6 + k * sleeve * 0.35) * (ring[:, 1] > 0)
            xy = middle + ring[:, :1] * out
            rows.append(np.c_[xy[:, 0], xy[:, 1], ring[:, 1] + ripple])
        arm = patch(np.array(rows), closed=True).flat_uv("xy")
        cuff = np.array(rows)[-3] * [1, 1, 1.06]
        stitch = tube(cuff, 0.14, around=6, close=False).wearing(
            plain(skin, mix(skin.colours[0], "black", 0.35)))
        for piece in (arm.wearing(skin), stitch):
            parts.append(piece if sx > 0 else piece.mirrored())
    return every(parts, lambda p: p.turned("x", -90))


def sneaker(form, skin, trim):
    """Seen from the side: the toe points left (-x)."""
    high = {"runner": 0.0, "court": 0.3, "high-top": 4.6}[form]
    length, n = 28.5, 76
    t = np.linspace(0, 1, n)
    x = 0.5 * t + 0.5 * (0.5 - 0.5 * np.cos(np.pi * t))  # closer rows at toe and heel

    def at(place):
        return int(np.searchsorted(x, place))

    def rounded(toe, heel):
        """1 along the foot, falling to 0 in an arc at either end."""
        front = 1 - np.clip((toe - x) / toe, 0, 1) ** 2.2
        back = 1 - np.clip((x - 1 + heel) / heel, 0, 1) ** 2.4
        return np.sqrt(np.clip(front * back, 1e-5, 1))

    def profile(places, values):
        """A smooth line through (place, value), from toe to heel."""
        line = smooth(np.stack([places, values], 1), 3)
        return np.interp(x, line[:, 0], line[:, 1])

    wide = profile([0, 0.15, 0.3, 0.52, 0.75, 1], [3.9, 4.6, 4.9, 3.5, 3.4, 3.2])
    wide = wide * rounded(0.16, 0.12)
    roof = profile([0, 0.05, 0.14, 0.26, 0.38, 0.50, 0.56, 0.60, 0.72, 0.86, 0.95, 1],
                   [4.4, 4.8, 5.3, 6.2, 7.8, 9.9 + 0.6 * high, 10.9 + high, 10.2 + high, 7.8 + high,
                    8.0 + high, 10.0 + high, 10.0 + high])
    roof = roof * (0.55 + 0.45 * rounded(0.1, 1e-3))
    floor = 2.0
    open_ = np.clip((x - 0.50) / 0.05, 0, 1)
    # Across: up the outer wall, over the top; where the shoe is open, down again.
    s = np.linspace(-1, 1, 61)
    wall = np.clip((1 - np.abs(s)) / 0.55, 0, 1)
    deep = np.clip((0.45 - np.abs(s)) / 0.45, 0, 1)
    arch_z = np.sign(s) * (1 - (1 - np.abs(s)) ** 2.1) ** 0.62
    arch_y = (1 - np.abs(s) ** 2.6) ** 0.72
    cup_y = np.sin(wall * np.pi / 2) * (1 - 0.62 * deep**0.5)
    cup_z = np.sign(s) * np.where(np.abs(s) > 0.45, 1 - 0.24 * wall**2,
                                  0.76 * (np.abs(s) / 0.45) ** 0.4)
    rows = []
    for k in range(n):
        lean = 1 - 0.30 * arch_y * np.clip((x[k] - 0.35) * 4, 0, 1)
        o = open_[k]
        y = floor + (roof[k] - floor) * (arch_y * (1 - o) + cup_y * o)
        z = wide[k] * (arch_z * lean * (1 - o) + cup_z * o)
        rows.append(np.stack([np.full(61, (x[k] - 0.5) * length), y, z], 1))
    upper = np.array(rows)

    def piece(a, b, c=0, d=61, lift=0.1):
        """An overlay: part of the upper once more, a little outside it."""
        made = patch(upper[at(a) : at(b), c:d]).flat_uv("xy")
        facing = np.sign((made.normals * (made.points - [0, 4, 0])).sum(1, keepdims=True))
        return replace(made, points=made.points + made.normals * facing * lift)

    parts = [patch(upper).flat_uv("xy").wearing(skin)]
    lining = plain(skin, mix(trim.colours[0], "charcoal", 0.35), "felt")
    parts.append(patch(upper[at(0.56) :, 18:43] + [0, 0.03, 0]).wearing(lining))
    accent = plain(skin, skin.colours[1] if form == "runner" else trim.colours[0], "suede")
    parts.append(piece(0, 0.17, 2, 59).wearing(trim))  # toe cap
    for c, d in ((1, 15), (46, 60)):
        parts.append(piece(0.84, 1, c, d, 0.12).wearing(trim))  # heel counter
    if form == "runner":  # a guard along the sole
        for c, d in ((1, 8), (53, 60)):
            parts.append(piece(0.15, 0.86, c, d).wearing(accent))
    # A row of eyelets on either side of the throat.
    places = np.linspace(0.29, 0.47, 5)
    for place in places:
        for across in (19, 41):
            spot = ball(0.75, 0.5, 0.75).moved(*(upper[at(place), across] + [0, 0.05, 0]))
            parts.append(spot.wearing(of("polished", "steel")))
    for place in places:
        bar = upper[at(place), 20:41] + [0, 0.22, 0]
        slant = np.linspace(-0.35, 0.35, 21)
        bar = bar + np.c_[slant, 0 * slant, 0 * slant]
        lace = tube(bar, (0.95, 0.5), around=10, up=(0.5, 0.8, 0.05))
        parts.append(lace.wearing(of("cotton", "linen")))
    # A bow: two loops and two ends.
    knot = upper[at(0.475), 30] + [0, 0.45, 0]
    for side in (-1, 1):
        for out, down in ((3.0, 1.3), (2.2, 3.0)):
            way = knot + np.array([(0, 0, 0), (-0.6, 0.9, side * out * 0.5),
                                   (-0.8, -0.1, side * out * 0.9), (-1.0, -down, side * out)])
            parts.append(tube(resample(smooth(way, 3), 24), 0.42, around=8,
                              up=(0.9, 0.1, 0.2)).wearing(of("cotton", "linen")))
    # The tongue comes up out of the throat, padded.
    u = np.linspace(0, 1, 16)
    lift = 3.3 + 0.95 * high
    spine = np.stack([-2.6 + 3.9 * u + 0.5 * u**2, 7.9 + lift * u, 0 * u], 1)
    flat = np.stack([3.4 + 1.5 * np.sin(u * 2.6), 1.0 + 0.3 * u], 1)
    parts.append(tube(spine, flat, power=2.6, around=24, up=(0.7, -0.7, 0)).wearing(plain(skin)))

    # Sole: a cup of rubber with a little spring under the toe.
    spring = 1.2 * np.clip((0.22 - x) / 0.22, 0, 1) ** 2
    base = profile([0, 0.15, 0.3, 0.52, 0.75, 1], [4.2, 5.0, 5.2, 3.9, 3.8, 3.6])
    base = base * rounded(0.17, 0.13)
    thick = 2.4 + (1.3 if form == "runner" else 0.2) * np.clip((x - 0.4) * 2, 0, 1) ** 1.3
    sole, tread = [], []
    for k in range(n):
        ring = superellipse(2 * base[k], 1.0, 5, 36)
        level = ring[:, 1] + 0.5
        along = np.full(37, (x[k] - 0.5) * (length + 1.6) + 0.2)
        sole.append(np.stack([along, spring[k] + level * thick[k],
                              ring[:, 0] * (1.04 - 0.06 * level)], 1))
        tread.append(np.stack([along, spring[k] - 0.2 + level * 0.5, ring[:, 0] * 1.06], 1))
    parts.append(loft(sole).wearing(of("rubber", "rubber")))
    parts.append(loft(tread).wearing(of("rubber", mix(accent.colours[0], "brown", 0.4))))
    return parts


def watch(form, skin, trim):
    """Standing on its closed strap, dial to the front. ``skin`` is the strap."""
    a = np.linspace(0.30, TAU - 0.30, 90)  # open where the case sits
    loop = np.stack([0 * a, -2.63 * np.sin(a), 2.42 * np.cos(a)], 1)
    wide = 1.95 - 0.35 * np.sin(np.linspace(0, np.pi, 90)) ** 0.7
    parts = wear(ribbon_along(loop, wide, 0.3), skin)
    # Loud colours are for straps; a dial is read.
    dial = skin.colours[-1]
    deep = dial in ("navy", "charcoal", "black", "forest", "plum", "denim", "brown")
    if not deep:
        dial = mix(dial, "white", 0.72)
    r = 1.95 if form != "square" else 1.8
    front = 2.36
    if form == "square":
        case = every(block(3.5, 0.85, 4.1, 0.8, 0.22, 0.05),
                     lambda p: p.turned("x", 90).moved(0, 0, front - 0.4))
        parts += wear(case, trim)
        glass = every(block(2.9, 0.1, 3.5, 0.6, 0.04, 0.02),
                      lambda p: p.turned("x", 90).moved(0, 0, front + 0.42))
        parts += wear(glass, of("porcelain", dial))
    else:
        line = smooth([(0, -0.4), (r - 0.3, -0.4), (r, -0.2), (r + 0.08, 0.25), (r - 0.05, 0.55),
                       (r - 0.28, 0.62),
                       (r - 0.34, 0.45)], 3)
        parts.append(lathe(line, 80).turned("x", 90).moved(0, 0, front).wearing(trim))
        face = disc(r - 0.3, 0.46).turned("x", 90).moved(0, 0, front)
        parts.append(face.wearing(of("porcelain", dial)))
    ink = trim if form != "square" else of("polished", "steel")
    if not deep:
        ink = of("painted metal", "charcoal")
    z = front + (0.53 if form == "square" else 0.5)
    for hour in range(12):
        h = np.radians(hour * 30)
        edge = r - 0.52
        if form == "square":
            edge = min(1.22 / max(abs(np.sin(h)), 1e-6), 1.5 / max(abs(np.cos(h)), 1e-6))
        way = np.array([np.sin(h), np.cos(h)])
        long = 0.34 if hour % 3 == 0 else 0.2
        mark = [(*(way * (edge - d)), z) for d in np.linspace(0, long, 4)]
        parts.append(tube(mark, (0.11, 0.05), around=8).wearing(ink))
    for angle, long, thick in ((306, 0.85, 0.13), (54, 1.25, 0.10)):
        h = np.radians(angle)
        hand = [(np.sin(h) * d, np.cos(h) * d, z + 0.05) for d in np.linspace(-0.2, long, 6)]
        parts.append(tube(hand, (thick, 0.04), around=8).wearing(ink))
    parts.append(ball(0.24, 0.24, 0.2).moved(0, 0, z + 0.05).wearing(ink))
    if form == "chrono":
        for sx, sy in ((-0.75, 0), (0, -0.8), (0.75, 0)):
            sub = disc(0.42, 0).turned("x", 90).moved(sx, sy, z - 0.02)
            parts.append(sub.wearing(of("porcelain", mix(dial, "grey", 0.3))))
            tick = [(sx, sy, z + 0.02), (sx + 0.1, sy + 0.28, z + 0.02)]
            parts.append(tube(resample(np.array(tick), 4), 0.05, around=6).wearing(ink))
    crown = tube(np.linspace((r + 0.02, 0, front + 0.1), (r + 0.34, 0, front + 0.1), 5), 0.48,
                 around=16)
    parts.append(crown.wearing(trim))
    if form == "chrono":
        for y in (-0.8, 0.8):
            push = tube(np.linspace((r - 0.25, y, front + 0.1), (r + 0.16, y * 1.1, front + 0.1),
                                    4), 0.34)
            parts.append(push.wearing(trim))
    return parts


def hat(form, skin, trim):
    a = np.linspace(0, TAU, 97)
    if form == "beanie":
        dome = smooth([(9.2, 3), (9.6, 8), (9.2, 14), (6.4, 19), (2, 20.6), (0, 20.8)], 4)
        fold = smooth([(9.2, 0.4), (9.9, 0), (10.2, 0.4), (10.2, 5.4), (9.9, 6.2), (9.2, 6.0)], 3)
        parts = [lathe(resample(dome, 40)).wearing(skin),
                 lathe(fold).wearing(plain(skin, skin.colours[-1]))]
        rng = np.random.default_rng(9)
        bobble = ball(8, 7.6, 8)
        bobble.points *= 1 + 0.06 * rng.standard_normal((len(bobble.points), 1))
        parts.append(bobble.moved(0, 23, 0).wearing(replace(plain(trim), material="plush")))
        return parts
    if form == "cap":
        dome = smooth([(9.3, 0), (9.5, 3), (9.2, 8), (6, 12), (0, 13)], 4)
        parts = [lathe(resample(dome, 40)).wearing(skin),
                 ball(1.4, 1, 1.4).moved(0, 13, 0).wearing(trim)]
        # The visor is a crescent: it reaches forward, not outward.
        s, t = np.meshgrid(np.linspace(-1.2, 1.2, 49), np.linspace(0, 1, 14))
        forward = 8.2 * t * np.cos(s / 1.2 * np.pi / 2) ** 0.55
        drop = 0.7 - 0.5 * t - 1.6 * np.sin(s) ** 2 * t
        brim = np.stack([9.35 * np.sin(s), drop, 9.35 * np.cos(s) + forward], 2)
        parts += [patch(brim).flat_uv("xz").wearing(trim), patch(brim - [0, 0.35, 0]).wearing(trim)]
        edge = tube(brim[-1, 2:-2], 0.45, around=8, up=(0, 1, 0))
        parts.append(edge.wearing(trim))
        for k in range(6):  # seams between the panels
            seam = np.stack([dome[:, 0] + 0.03, dome[:, 1], 0 * dome[:, 0]], 1)
            turn = rotation("y", k * 60 + 30)
            parts.append(tube(seam @ turn.T, 0.22, around=6,
                              up=(0.3, 0.2,
                                  0.9)).wearing(plain(skin, mix(skin.colours[0], "black", 0.2))))
        # Half turned, to show how far the visor reaches.
        return every(parts, lambda p: p.moved(0, 2, 0).turned("y", 34))
    # A sun hat: a crown with a ribbon and a wide, wavy brim.
    crown = smooth([(9.6, 2), (9.2, 4), (8.6, 10), (7.6, 12.2), (6.0, 12.0), (0, 11.2)], 4)
    r = np.linspace(9.5, 21, 16)[:, None]
    wave = 0.06 * (r - 9) * np.sin(2 * a + 0.5)[None, :] + 0.05 * (r - 9) * np.cos(3 * a)[None, :]
    drop = 2.2 - 0.012 * (r - 9) ** 2 + wave
    brim = np.stack([r * np.cos(a), drop, r * np.sin(a) * 0.96], 2)
    made = patch(brim, closed=True)
    band = smooth([(9.75, 1.9), (9.72, 2.2), (9.3, 5.2), (9.1, 5.4)], 2)
    return [
        lathe(resample(crown, 40)).wearing(skin),
        made.wearing(skin),
        patch(brim - [0, 0.3, 0], closed=True).wearing(plain(skin)),
        tube(brim[-1], 0.6, up=(0, 1, 0), around=8, close=False).wearing(plain(skin)),
        lathe(band).wearing(trim),
    ]
