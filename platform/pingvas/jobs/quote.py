"""What a job can cost at the most, and how long it is likely to take. Pure functions of the request."""

import math
from dataclasses import dataclass

SECONDS_PER_STEP = 0.5  # a step of one 512x512 picture with price factor 1
REFERENCE_PIXELS = 512 * 512
MINIMUM_CREDITS = 10


@dataclass(frozen=True)
class Quote:
    """`credits` binds: a capture never exceeds it. `gpu_seconds` is the estimate it comes from."""

    credits: int
    gpu_seconds: float


def quote(*, steps: int, width: int, height: int, num_images: int, price_factor: float) -> Quote:
    """Price a request by work: steps x 0.5 s x (w·h / 512²) x factor for each picture, at least 10 credits.

    Width and height are in pixels.
    """
    seconds = steps * SECONDS_PER_STEP * (width * height / REFERENCE_PIXELS) * price_factor * num_images
    return Quote(credits=max(MINIMUM_CREDITS, math.ceil(seconds)), gpu_seconds=round(seconds, 3))


def cost(gpu_seconds: float) -> int:
    """Return the credits that GPU time costs: every started second counts, and no job is free."""
    return max(1, math.ceil(gpu_seconds))
