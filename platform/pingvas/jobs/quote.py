"""What a job can cost at the most, and how long it is likely to take. Pure functions of request and rate."""

import math
from dataclasses import dataclass

SECONDS_PER_STEP = 0.5  # a step of one 512x512 picture with price factor 1
REFERENCE_PIXELS = 512 * 512
PIXELS_PER_MEGAPIXEL = 1_000_000
MINIMUM_CREDITS = 10
MARGIN = 1.5
"""A quote binds, so it is so much above the mean of what was measured."""


@dataclass(frozen=True)
class Quote:
    """`credits` binds: a capture never exceeds it. `gpu_seconds` is the estimate it comes from."""

    credits: int
    gpu_seconds: float


def quote(
    *,
    steps: int,
    width: int,
    height: int,
    num_images: int,
    price_factor: float,
    rate: float | None = None,
) -> Quote:
    """Price a request by work, at least 10 credits. Width and height are in pixels.

    `rate` is what was measured, in GPU seconds per megapixel and step; the quote is `MARGIN` above it. Before
    anything was measured it is steps x 0.5 s x (w·h / 512²) x factor for each picture.
    """
    if rate is not None:
        seconds = most = rate * steps * width * height / PIXELS_PER_MEGAPIXEL * num_images
        most *= MARGIN
    else:
        pixels = width * height / REFERENCE_PIXELS
        seconds = most = steps * SECONDS_PER_STEP * pixels * price_factor * num_images
    return Quote(credits=max(MINIMUM_CREDITS, math.ceil(most)), gpu_seconds=round(seconds, 3))


def cost(gpu_seconds: float) -> int:
    """Return the credits that GPU time costs: every started second counts, and no job is free."""
    return max(1, math.ceil(gpu_seconds))
