"""When a job will start: a pure function of what waits, what runs and who can work.

The queues are seen as fluids. Capacity is the job slots of live workers, in seconds of service per second.
A higher class of tiers takes what it wants; inside a class backlogged tiers share by weight, and none takes
more than it has jobs on the broker. The time until the work ahead has drained is the mean of a lognormal
law, whose spread comes from how much service times differ (the sum of many) and from where in its present
job a slot is (the residual of a renewal process: (1 + cv²) / 2 of the gap between two starts).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

LEAST_SHARE = 0.05  # of the capacity is left to lower classes: a prediction is finite even under a flood
DRIFT = 0.2  # of a wait: how much faster or slower than measured things may go
_Z90 = 1.2816
_MOST_VARIANCE = 1.0  # of the logarithm: beyond, a law with this mean would call a longer tail a shorter wait
_MOST_PHASES = 12


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds until a job starts: median and 90th percentile."""

    p50: float
    p90: float

    def not_before(self, seconds: float) -> "Wait":
        """Return the wait of a job that cannot start earlier than that: both move by what is missing."""
        later = max(0.0, seconds - self.p50)
        return Wait(self.p50 + later, self.p90 + later)


@dataclass(frozen=True, slots=True)
class TierLoad:
    """What one tier has. `seconds` is the mean service of its waiting jobs, `inflow` is arriving service
    (seconds per second). `unrung` counts users by how many jobs they have waiting for a place on the broker.
    """

    rung: int = 0
    running: int = 0
    seconds: float = 1.0
    inflow: float = 0.0
    unrung: Mapping[int, int] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """Jobs that have not started."""
        return self.rung + sum(jobs * users for jobs, users in self.unrung.items())

    def ahead(self, turns: int, places: int | None) -> int:
        """Return the jobs that start before a newcomer's, whose own earlier jobs take `turns` turns."""
        if places is None:
            return self.waiting
        return self.rung + sum(min(jobs, turns * places) * users for jobs, users in self.unrung.items())


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers that may take a job, and what is known of service: mean seconds and their variation.

    `classes` holds the tiers by who is served strictly first; `pickup` is the wait of a job that finds a
    free slot.
    """

    slots: int
    classes: Sequence[Sequence[str]]
    weights: Mapping[str, float]
    seconds: float = 1.0
    variation: float = 0.5
    pickup: Wait = Wait(0.02, 0.1)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A job at the end of `ahead` others of its tier, after `turns` turns of its own user's jobs."""

    tier: str
    ahead: int
    turns: int = 0
    own_seconds: float = 1.0


def predict(loads: Mapping[str, TierLoad], pool: Pool, job: Newcomer, age: float = 0.0) -> Wait:
    """Predict when a job starts; `age` is how many seconds old the picture in `loads` is."""
    running = sum(load.running for load in loads.values())
    competing = job.ahead + sum(load.rung for tier, load in loads.items() if tier != job.tier)
    free = max(0, pool.slots - running)
    if job.turns == 0 and competing < free:
        return pool.pickup
    drained, rate = _drain(loads, pool, job)
    drained = max(0.0, drained - age)
    square = min(1.0, pool.variation**2)
    residual = pool.seconds / (pool.slots + 1 - square)
    # Somebody who joins an idle tier is next; behind others the tier's own rhythm counts.
    beat = max(0.0, loads[job.tier].seconds / rate - residual) if job.ahead else 0.0
    pause = 0.0 if free else residual  # between two of its user's own jobs
    mean = max(drained + residual + beat / 2, (job.turns - 0.5) * job.own_seconds + job.turns * pause)
    others = sum(loads[tier].inflow for tier in _not_after(pool.classes, job.tier))
    surprise = drained * pool.seconds * (square / rate + others * (1 + square) / rate**2)
    surprise += job.turns * square * job.own_seconds**2 + (DRIFT * drained) ** 2
    return _lognormal(mean, math.sqrt(surprise + residual**2 + beat**2 / 12), pool.pickup)


def joined(load: TierLoad) -> TierLoad:
    """Return a tier's load with one more job on the broker."""
    return replace(load, rung=load.rung + 1)


def _lognormal(mean: float, spread: float, pickup: Wait) -> Wait:
    variance = min(_MOST_VARIANCE, math.log1p((spread / mean) ** 2))
    median = mean * math.exp(-variance / 2)
    return Wait(median + pickup.p50, median * math.exp(_Z90 * math.sqrt(variance)) + pickup.p90)


def _drain(loads: Mapping[str, TierLoad], pool: Pool, job: Newcomer) -> tuple[float, float]:
    """Return the seconds until everything ahead of the job is served, and its tier's service rate then."""
    work = {tier: load.waiting * load.seconds for tier, load in loads.items()}
    work[job.tier] = job.ahead * loads[job.tier].seconds
    elapsed = 0.0
    for _ in range(_MOST_PHASES):
        rates = _rates(loads, pool, work, job.tier)
        rate = rates[job.tier]
        ends = {
            tier: left / (rates[tier] - loads[tier].inflow)
            for tier, left in work.items()
            if tier != job.tier and left > 0 and rates[tier] > loads[tier].inflow
        }
        own = work[job.tier] / rate
        blocked = _blocked(pool.classes, work, job.tier)
        until = min([*ends.values(), math.inf if blocked else own])
        if until == math.inf:  # a higher class never runs dry: the share that is left has to do
            return elapsed + own, rate
        elapsed += until
        if not blocked and own <= until:
            return elapsed, rate
        for tier in work:
            net = rates[tier] - (0.0 if tier == job.tier else loads[tier].inflow)
            done = tier in ends and ends[tier] <= until
            work[tier] = 0.0 if done else max(0.0, work[tier] - net * until)
    return elapsed + work[job.tier] / rate, rate


def _not_after(classes: Sequence[Sequence[str]], tier: str) -> list[str]:
    """Return the other tiers of a tier's class and of those above it."""
    tiers: list[str] = []
    for members in classes:
        tiers += [member for member in members if member != tier]
        if tier in members:
            break
    return tiers


def _blocked(classes: Sequence[Sequence[str]], work: Mapping[str, float], tier: str) -> bool:
    """Tell whether a higher class has work left."""
    for members in classes:
        if tier in members:
            return False
        if any(work[member] > 0 for member in members):
            return True
    return False


def _rates(
    loads: Mapping[str, TierLoad], pool: Pool, work: Mapping[str, float], target: str
) -> dict[str, float]:
    """Share the capacity: seconds of service per second of each tier."""
    left = float(pool.slots)
    rates = dict.fromkeys(loads, 0.0)
    least = LEAST_SHARE * left
    for members in pool.classes:
        wanted = {}
        for tier in members:
            load = loads[tier]
            wanted[tier] = load.inflow
            if tier == target or (work[tier] > 0 and not load.unrung):
                wanted[tier] = math.inf
            elif work[tier] > 0:  # users who take turns: no more run side by side than have a place
                wanted[tier] = max(load.rung + load.running, load.inflow)
        rates |= _share(left, {tier: most for tier, most in wanted.items() if most > 0}, pool.weights)
        left = max(least, left - sum(rates[tier] for tier in members))
    return rates


def _share(capacity: float, wanted: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """Split by weight among those who want more than their share; the others get what they want."""
    rates: dict[str, float] = {}
    open_ = dict(wanted)
    while open_:
        unit = capacity / sum(weights[tier] for tier in open_)
        modest = {tier: most for tier, most in open_.items() if most <= weights[tier] * unit}
        if not modest:
            return rates | {tier: weights[tier] * unit for tier in open_}
        for tier, most in modest.items():
            rates[tier] = most
            capacity -= most
            del open_[tier]
    return rates
