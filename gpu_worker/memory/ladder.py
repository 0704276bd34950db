"""What to do when memory runs out: pure decisions, the mildest measure first."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Stage = Literal["load", "encode", "denoise", "decode"]


class Rung(StrEnum):
    """The measures, mildest first. FAIL ends the one request that is left in the batch, as retryable."""

    FREE = "free"  # give back caches, evict models nobody uses
    HALVE = "halve"  # the same with half the rows
    TILE = "tile"  # decode the picture in tiles
    OFFLOAD = "offload"  # keep the weights in host memory, bring them in layer by layer
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Context:
    """One failure: `rows` were in the batch, which cannot go below `least`; `done` was tried before."""

    stage: Stage
    rows: int
    least: int
    done: frozenset[Rung]
    can_offload: bool


def next_rung(context: Context) -> Rung:
    """The mildest measure that helps at this stage and is left.

    Halving is there as long as the batch is more than one request; it leads to FAIL only for a request that
    was alone, so that nobody fails for another's size.
    """
    done = context.done
    if Rung.FREE not in done:
        return Rung.FREE
    if context.stage != "load" and context.rows > context.least:
        return Rung.HALVE
    if context.stage == "decode" and Rung.TILE not in done:
        return Rung.TILE
    if context.can_offload and Rung.OFFLOAD not in done:
        return Rung.OFFLOAD
    return Rung.FAIL


def halved(rows: int, least: int) -> int:
    """Half the rows, in whole requests as far as `least` tells: never below it."""
    return max(least, rows // 2)
