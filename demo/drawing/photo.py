"""The camera: frames a product, takes the picture, and is not quite perfect."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from .light import Fragments, Shadows, blur, dot, enlarge, shade, unit
from .materials import colour
from .patterns import step
from .raster import interpolate, visible

SIZE = 480
FINE = 2 * SIZE  # everything is drawn twice as large, then averaged


@dataclass
class Pose:
    """How a product stands and how it is looked at."""

    yaw: float = 0.0  # degrees the product is turned
    pitch: float = 14.0  # degrees the camera looks down
    roll: float = 0.0
    fill: float = 0.70  # share of the picture's side the product takes
    paper: str = "#e9e6e1"
    seed: int = 0


class Camera:
    """A long lens, aimed and zoomed so that all points are in the picture."""

    def __init__(self, points: np.ndarray, pose: Pose):
        p = np.radians(pose.pitch)
        self.forward = np.array([0, -np.sin(p), -np.cos(p)])
        self.up = np.array([0, np.cos(p), -np.sin(p)])
        self.right = np.array([1.0, 0, 0])
        roll = np.radians(pose.roll)
        self.right, self.up = (
            np.cos(roll) * self.right + np.sin(roll) * self.up,
            np.cos(roll) * self.up - np.sin(roll) * self.right,
        )
        low, high = points.min(0), points.max(0)
        self.eye = (low + high) / 2 - self.forward * 3.6 * np.linalg.norm(high - low)
        self.scale, self.centre = 1.0, np.zeros(2)
        flat, _ = self.project(points)
        low, high = flat.min(0), flat.max(0)
        self.scale = pose.fill * FINE / (high - low).max()
        # Slightly low in the frame, as things stand in pictures.
        self.centre = np.array([0.5, 0.515]) * FINE - (low + high) / 2 * self.scale

    def project(self, points):
        """Picture coordinates and depth."""
        q = points - self.eye
        depth = q @ self.forward
        flat = np.stack([q @ self.right / depth, -(q @ self.up) / depth], 1)
        return flat * self.scale + self.centre, depth

    def places(self, pixels, depth):
        """Where in the room a pixel at some depth lies: project, backwards."""
        x = (pixels % FINE + (0.5 - self.centre[0])).astype(np.float32) / np.float32(self.scale)
        y = (pixels // FINE + (0.5 - self.centre[1])).astype(np.float32) / np.float32(self.scale)
        axes = np.stack([self.forward, self.right, -self.up]).astype(np.float32)
        ray = [axes[0, k] + x * axes[1, k] + y * axes[2, k] for k in range(3)]
        return np.stack([np.float32(self.eye[k]) + ray[k] * depth for k in range(3)])

    def rays(self, count: int):
        """Directions through a count x count grid of pixels."""
        at = (np.arange(count) + 0.5) * (FINE / count)
        x = ((at - self.centre[0]) / self.scale)[None, :, None]
        y = ((at - self.centre[1]) / self.scale)[:, None, None]
        return self.forward + x * self.right - y * self.up


def photograph(patches, pose: Pose) -> Image.Image:
    """Take the picture of a product made of patches that wear skins."""
    skins = list(dict.fromkeys(p.skin for p in patches))
    patches = [p.turned("y", pose.yaw) for p in patches]
    points = np.concatenate([p.points for p in patches])
    normals = np.concatenate([p.normals for p in patches])
    uv = np.concatenate([p.uv for p in patches])
    counts = [len(p.points) for p in patches]
    firsts = np.cumsum([0, *counts[:-1]])
    triangles = [p.triangles + first for p, first in zip(patches, firsts, strict=True)]
    triangles = np.concatenate(triangles)
    patch_of = np.repeat(np.arange(len(patches)), [len(p.triangles) for p in patches])
    skin_of = np.array([skins.index(p.skin) for p in patches])

    # Everything stands on the floor.
    points = points - [0, points[:, 1].min(), 0]
    extent = float(np.ptp(points, axis=0).max())
    camera = Camera(points, pose)
    paper = colour(pose.paper)
    # Upper left in the picture, whether we look from the front or from above.
    lamp = unit(-0.60, 1.05, 0.62 * np.cos(np.radians(pose.pitch) * 1.7))
    shadows = Shadows(points, triangles, lamp, extent)

    xy, depth = camera.project(points)
    seen, tri, far = visible(xy, depth, triangles, FINE, FINE)
    values = interpolate(xy, np.concatenate([normals, uv], 1), triangles, seen, tri, FINE)
    # Patches have no inside or outside: a normal always faces the camera.
    a, b, c = triangles.T
    facing = normals[a] + normals[b] + normals[c]
    toward = (facing * (camera.eye - points[a])).sum(1)
    n = values[:3]
    n *= np.where(toward < 0, -1, 1).astype(np.float32)[tri] / np.sqrt(np.maximum(dot(n, n), 1e-12))

    patch = patch_of[tri]
    fragments = Fragments(
        pixels=seen, points=camera.places(seen, far), normals=n, uv=values[3:], skin=skin_of[patch],
        patch=patch.astype(np.int32), depth=far, size=FINE,
        pixels_per_cm=camera.scale / float(depth.mean()),
        extent=extent, height=float(points[:, 1].max()),
    )  # fmt: skip
    backdrop, floor_depth = sweep(camera, shadows, paper, extent)
    light = shade(fragments, skins, shadows, camera.eye, paper, floor_depth)

    layer = np.zeros((5, FINE * FINE), np.float32)
    layer[:3, seen] = np.minimum(light, 1.6)
    layer[3, seen] = 1
    layer[4, seen] = np.abs(fragments.depth - np.quantile(fragments.depth[::37], 0.25)) / extent
    layer = layer.reshape(5, SIZE, 2, FINE)
    layer = layer[:, :, 0] + layer[:, :, 1]
    layer = (layer[:, :, 0::2] + layer[:, :, 1::2]) / 4
    image = backdrop * (1 - layer[3]) + layer[:3]
    return develop(image, layer[4], pose)


def sweep(camera: Camera, shadows: Shadows, paper: np.ndarray, extent: float):
    """The paper that curves up behind the product, and its distance.

    All of it is soft, so a quarter of the drawing's size will do; the picture
    comes back enlarged, as (3, SIZE, SIZE), the distance does not.
    """
    count = SIZE // 2
    rays = camera.rays(count).reshape(-1, 3).T
    # Past some distance the paper rises: no horizon, no far shadows.
    limit = float(-camera.eye[1] / camera.forward[1]) + 4 * extent
    reach = np.minimum(-camera.eye[1] / np.minimum(rays[1], -1e-3), limit)
    points = (camera.eye[:, None] + rays * reach).astype(np.float32)
    lamp, sky = shadows.on_floor(points)
    away = step(-points[2] / extent, 0.6, 5.0)
    lamp, sky = lamp * (1 - away) + away, sky * (1 - away) + away

    y, x = np.mgrid[0:count, 0:count].reshape(2, -1) / count
    glow = np.exp(-((x - 0.36) ** 2 + (y - 0.30) ** 2) / 0.42)
    base = 0.80 + 0.30 * glow + 0.10 * step(y, 0.55, 1.0) * step(x, 1.1, 0.2)
    light = base * (0.52 * lamp + 0.48) * (0.30 + 0.70 * sky)
    # Shadows are filled by the room, a little cooler than the lamp.
    dark = 1 + (1 - lamp * sky) * np.array([[-0.012], [0.0], [0.016]])
    picture = (light * (paper[:, None] * 1.05) * dark).astype(np.float32)
    large = np.stack([enlarge(band, SIZE) for band in picture.reshape(3, count, count)])
    return large, reach.reshape(count, count).astype(np.float32)


@cache
def grain() -> np.ndarray:
    """Sensor noise for all pictures; each looks at another corner of it."""
    rng = np.random.default_rng(480)
    noise = rng.standard_normal((3, SIZE + 128, SIZE + 128)).astype(np.float32)
    return noise * 0.35 + blur(noise, 1, 1) * 1.6


def develop(image: np.ndarray, focus: np.ndarray, pose: Pose) -> Image.Image:
    """Lens and sensor: depth blur, bloom, vignette, tone, noise."""
    share = np.clip((focus - 0.12) * 1.6, 0, 0.85)
    if share.any():
        image = image + (blur(image, 1, 1) - image) * blur(share, 1)
    small = image.reshape(3, SIZE // 4, 4, SIZE // 4, 4)[:, :, 1::2, :, 1::2].mean((2, 4))
    bloom = blur(np.maximum(small - np.float32(0.8), 0), 4)
    image = image + np.stack([enlarge(band * np.float32(0.22), SIZE) for band in bloom])

    t = np.linspace(-1, 1, SIZE, dtype=np.float32)
    image *= 1 - np.float32(0.06) * (t[None, :] ** 2 + t[:, None] ** 2)

    # A shoulder for the highlights, then the display curve.
    knee = np.float32(0.74)
    image = np.maximum(image, 0)
    bright = image > knee
    image[bright] = 1 - (1 - knee) * np.exp((knee - image[bright]) / (1 - knee))
    image = np.power(image, np.float32(1 / 2.2))

    dx, dy = pose.seed % 127, pose.seed // 127 % 127
    noise = grain()[:, dy : dy + SIZE, dx : dx + SIZE]
    image += noise * (np.float32(0.0065) - np.float32(0.003) * image)
    pixels = (np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
