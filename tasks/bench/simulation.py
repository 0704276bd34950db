"""A day of a fleet in the workers' own order, without a broker: `FairOrder` decides, a heap keeps the time.

Every worker runs a job at a time and has an order of its own, as its process would; none knows of another.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from pingvas.billing import plans
from pingvas.billing.plans import Tier
from tasks.broker.fair import FairOrder

DAY = 86_400.0
BIN = 600.0  # seconds of one point of the curves
# Share of the jobs, and length of a job against the mean: cheap plans make many and short ones.
MIX = {Tier.ENTERPRISE: 0.05, Tier.STUDIO: 0.15, Tier.PRO: 0.25, Tier.STARTER: 0.20, Tier.FREE: 0.35}
LENGTH = {Tier.ENTERPRISE: 1.5, Tier.STUDIO: 1.5, Tier.PRO: 1.0, Tier.STARTER: 1.0, Tier.FREE: 0.7}
_SPREAD = 0.6  # sigma of the lengths' log-normal distribution
_QUIET, _BURST = 1.0, 3.0  # arrivals against each other
BURSTS = ((2.0, 3.0), (8.5, 10.0), (13.0, 13.5), (18.0, 20.0))  # hours


@dataclass(frozen=True)
class Fleet:
    """How many workers serve how many jobs a day; `load` is the share of the day's seconds they need."""

    workers: int
    jobs: int
    load: float = 0.75

    @property
    def job_seconds(self) -> float:
        """Return the mean length of a job that gives this load."""
        mean = sum(MIX[tier] * LENGTH[tier] for tier in MIX)
        return self.load * self.workers * DAY / (self.jobs * mean)


@dataclass
class Seen:
    """What became of one tier's jobs."""

    waits: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)  # when


def simulate(fleet: Fleet, seed: int = 1) -> dict[Tier, Seen]:
    """Run a day and until all is done. The same seed gives the same day on every machine."""
    chance = random.Random(seed)
    weights = {tier.value: plan.weight for tier, plan in plans.table().items()}
    idle = deque(FairOrder(weights) for _ in range(fleet.workers))
    waiting: dict[str, deque[tuple[float, float]]] = {tier.value: deque() for tier in Tier}
    seen = {tier.value: Seen() for tier in Tier}
    ends: list[tuple[float, int, FairOrder, str, float]] = []
    arrivals = _arrivals(fleet, chance)
    coming = next(arrivals, None)
    number = 0
    while coming or ends:
        if coming and (not ends or coming[0] <= ends[0][0]):
            now, tier, seconds = coming
            waiting[tier].append((now, seconds))
            coming = next(arrivals, None)
            if not idle:
                continue
            order = idle.popleft()
        else:
            now, _, order, ended, seconds = heapq.heappop(ends)
            order.settle(ended, seconds)
        queue = next((queue for queue in order.order(list(waiting)) if waiting[queue]), None)
        if queue is None:
            idle.append(order)
            continue
        since, seconds = waiting[queue].popleft()
        order.served(queue)
        number += 1
        heapq.heappush(ends, (now + seconds, number, order, queue, seconds))
        of_tier = seen[queue]
        of_tier.waits.append(now - since)
        of_tier.started.append(now)
    return {tier: seen[tier.value] for tier in Tier}


def _arrivals(fleet: Fleet, chance: random.Random) -> Iterator[tuple[float, str, float]]:
    """Yield when, of which tier and how long: a Poisson process whose rate rises in bursts."""
    tiers, shares = [tier.value for tier in MIX], list(accumulate(MIX.values()))
    lengths = {tier.value: LENGTH[tier] * fleet.job_seconds / math.exp(_SPREAD**2 / 2) for tier in MIX}
    edges = sorted({0.0, 24.0, *(hour for burst in BURSTS for hour in burst)})
    rates = [_BURST if any(a <= at < b for a, b in BURSTS) else _QUIET for at in edges[:-1]]
    hours = [b - a for a, b in pairwise(edges)]
    unit = fleet.jobs / sum(rate * length for rate, length in zip(rates, hours, strict=True)) / 3_600
    for begin, length, rate in zip(edges, hours, rates, strict=False):
        at, end = begin * 3_600, (begin + length) * 3_600
        while (at := at + chance.expovariate(rate * unit)) < end:
            tier = chance.choices(tiers, cum_weights=shares)[0]
            yield at, tier, lengths[tier] * chance.lognormvariate(0, _SPREAD)
