"""Draws scenes: anti-aliased flat shapes on a flat ground."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gpu_worker.tiny.world import COLOURS, SHAPES, Scene, Thing

Picture = NDArray[np.uint8]
Mask = NDArray[np.float32]
Points = tuple[tuple[float, float], ...]

_SUPERSAMPLING = 4
_HOLE = 0.50  # of the ring's radius
_ARM = 0.32  # half the width of the cross's arms


def _circle(radius: float = 1.0) -> Points:
    return tuple(
        (radius * math.cos(a), radius * math.sin(a)) for a in (2 * math.pi * i / 72 for i in range(72))
    )


def _star() -> Points:
    radii = (1.05, 0.42)
    angles = [math.pi * i / 5 - math.pi / 2 for i in range(10)]
    return tuple(
        (radii[i % 2] * math.cos(a), radii[i % 2] * math.sin(a) + 0.08) for i, a in enumerate(angles)
    )


def _heart() -> Points:
    points = []
    for i in range(72):
        a = 2 * math.pi * i / 72
        x = 16 * math.sin(a) ** 3
        y = -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a))
        points.append((x / 16, y / 16 - 0.12))
    return tuple(points)


@cache
def outline(shape: str) -> Points:
    """The outline of a shape in a box from -1 to 1, y downwards; the ring's is its outer edge."""
    a = _ARM
    outlines: dict[str, Points] = {
        "circle": _circle(),
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": ((0.0, -0.95), (1.0, 0.85), (-1.0, 0.85)),
        "star": _star(),
        "heart": _heart(),
        "diamond": ((0.0, -1.05), (0.72, 0.0), (0.0, 1.05), (-0.72, 0.0)),
        "ring": _circle(),
        "cross": (
            *((-a, -1.0), (a, -1.0), (a, -a), (1.0, -a), (1.0, a), (a, a)),
            *((a, 1.0), (-a, 1.0), (-a, a), (-1.0, a), (-1.0, -a), (-a, -a)),
        ),
    }
    return outlines[shape]


def shape_mask(shape: str, side: int, x: float, y: float, width: float) -> Mask:
    """How much of each pixel a shape covers, (side, side) in 0..1; x, y, width as fractions of the side."""
    big = side * _SUPERSAMPLING
    canvas = Image.new("L", (big, big), 0)
    pen = ImageDraw.Draw(canvas)

    def placed(points: Points) -> list[tuple[float, float]]:
        return [((x + px * width / 2) * big - 0.5, (y + py * width / 2) * big - 0.5) for px, py in points]

    pen.polygon(placed(outline(shape)), fill=255)
    if shape == "ring":
        pen.polygon(placed(_circle(_HOLE)), fill=0)
    return np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float32) / 255.0


def thing_mask(thing: Thing, side: int) -> Mask:
    """`shape_mask` of a thing."""
    return shape_mask(thing.shape, side, thing.x, thing.y, thing.width)


def draw(scene: Scene, side: int = 128) -> Picture:
    """The picture of a scene, (side, side, 3) in 0..255."""
    picture = np.empty((side, side, 3), dtype=np.float32)
    picture[:] = COLOURS[scene.background]
    for thing in scene.things:
        cover = thing_mask(thing, side)[..., None]
        picture += cover * (np.asarray(COLOURS[thing.colour], dtype=np.float32) - picture)
    return np.rint(picture).astype(np.uint8)


def shape_sheet(side: int = 128) -> Picture:
    """All shapes beside each other, black on white: for looking at."""
    return np.concatenate(
        [np.uint8(255) - (255 * shape_mask(s, side, 0.5, 0.5, 0.8)).astype(np.uint8) for s in SHAPES], axis=1
    )
