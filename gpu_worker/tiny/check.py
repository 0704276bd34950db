"""Looks at a picture and says what it shows, by pixel statistics alone.

It has no learned part and never sees the prompt.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gpu_worker.tiny.render import Mask, Picture, shape_mask
from gpu_worker.tiny.world import COLOURS, SHAPES

_LEAST_CHANGE = 40.0  # colour distance (0..441) at which a pixel is no longer ground
_LEAST_AREA = 0.01  # of the picture: less is a speck
LEAST_OVERLAP = 0.75  # a blob that resembles no shape this well is no shape


@dataclass(frozen=True)
class Sight:
    """What one object looks like: colour, best shape, its overlap (intersection over union), its centre."""

    colour: str
    shape: str | None
    overlap: float
    x: float
    y: float


def colour_name(rgb: NDArray[np.floating]) -> str:
    """The nearest of the world's colours to an (R, G, B) in 0..255."""
    return min(COLOURS, key=lambda name: float(np.square(np.asarray(COLOURS[name]) - rgb).sum()))


def ground_rgb(picture: Picture) -> NDArray[np.float64]:
    """The colour of the ground: the median along the picture's rim."""
    rim = max(2, picture.shape[0] // 40)
    edges = (picture[:rim], picture[-rim:], picture[:, :rim], picture[:, -rim:])
    return np.asarray(np.median(np.concatenate([e.reshape(-1, 3) for e in edges]), axis=0))


def object_mask(picture: Picture) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Where the picture is not ground, and the median colour there.

    A pixel belongs to the object from half way between the two colours on.
    """
    away = np.linalg.norm(picture.astype(np.float64) - ground_rgb(picture), axis=2)
    strong = away > max(_LEAST_CHANGE, 0.5 * float(np.quantile(away, 0.995)))
    if strong.mean() < _LEAST_AREA:
        return np.zeros(away.shape, dtype=bool), np.zeros(3)
    rgb = np.asarray(np.median(picture[strong], axis=0), dtype=np.float64)
    return away > 0.5 * float(np.median(away[strong])), rgb


@cache
def _ideal(shape: str) -> tuple[Mask, float, float, float]:
    """A shape's mask, its area relative to its box, and its centre of mass relative to its box's centre."""
    mask = shape_mask(shape, 256, 0.5, 0.5, 0.8)
    rows, columns = np.mgrid[0:256, 0:256] / 256 + 0.5 / 256
    mass = mask.sum()
    return (
        mask,
        float(mass / (0.8 * 256) ** 2),
        float((mask * columns).sum() / mass - 0.5) / 0.8,
        float((mask * rows).sum() / mass - 0.5) / 0.8,
    )


def shape_overlaps(mask: NDArray[np.bool_]) -> dict[str, float]:
    """Intersection over union of a mask with every shape drawn at the mask's area and centre of mass."""
    side = mask.shape[0]
    rows, columns = (np.nonzero(mask)[0] + 0.5) / side, (np.nonzero(mask)[1] + 0.5) / side
    overlaps = {}
    for shape in SHAPES:
        _, area, dx, dy = _ideal(shape)
        width = float(np.sqrt(mask.mean() / area))
        ideal = shape_mask(shape, side, columns.mean() - dx * width, rows.mean() - dy * width, width) > 0.5
        overlaps[shape] = float((mask & ideal).sum() / max(1, (mask | ideal).sum()))
    return overlaps


def see(picture: Picture) -> Sight | None:
    """What the one object of a picture (H, W, 3) is; None where there is nothing but ground."""
    mask, rgb = object_mask(picture)
    if not mask.any():
        return None
    overlaps = shape_overlaps(mask)
    best = max(overlaps, key=lambda shape: overlaps[shape])
    rows, columns = np.nonzero(mask)
    side = picture.shape[0]
    return Sight(
        colour=colour_name(rgb),
        shape=best if overlaps[best] >= LEAST_OVERLAP else None,
        overlap=overlaps[best],
        x=float(columns.mean() / side),
        y=float(rows.mean() / side),
    )


def see_two(picture: Picture, axis: int) -> tuple[Sight | None, Sight | None]:
    """What is on the left and right (axis 1) or upper and lower (axis 0) half of a picture of two objects.

    Each half is seen on the whole picture's ground, with the other half painted over.
    """
    ground = np.rint(ground_rgb(picture)).astype(np.uint8)
    half = picture.shape[axis] // 2
    first, second = picture.copy(), picture.copy()
    first.swapaxes(0, axis)[half:] = ground
    second.swapaxes(0, axis)[:half] = ground
    return see(first), see(second)
