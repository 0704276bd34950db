"""Predictions hold in a simulated cluster: half of the jobs start before p50, nine in ten before p90.

Only jobs that found no free slot are counted. What a tier still has coming is known to the prediction as to
the real one: from the arrivals of the last minute.
"""

import math
import random
from collections.abc import Callable

import pytest

from tests.jobs.eta.world import TIERS, Told, User, World

SLOTS, MEAN, UNTIL = 8, 4.0, 3_000.0
SHARES = {"enterprise": 0.1, "studio": 0.2, "pro": 0.2, "starter": 0.25, "free": 0.25}
WARM_UP = 60.0


def lognormal(variation: float) -> Callable[[random.Random], float]:
    variance = math.log1p(variation**2)
    return lambda source: source.lognormvariate(math.log(MEAN) - variance / 2, math.sqrt(variance))


def world(load: float, variation: float, users: int) -> World:
    made = World(SLOTS, MEAN, lognormal(variation), seed=1)
    made.variation = variation
    for tier in TIERS:
        made.arrivals(tier, load * SLOTS / MEAN * SHARES[tier], UNTIL, users)
    made.run()
    return made


def shares(told: list[Told]) -> tuple[float, float]:
    return (
        sum(job.actual <= job.wait.p50 for job in told) / len(told),
        sum(job.actual <= job.wait.p90 for job in told) / len(told),
    )


@pytest.mark.parametrize(("load", "variation", "users"), [(0.95, 0.5, 0), (0.95, 1.0, 0), (0.9, 0.5, 5)])
def test_the_predictions_are_calibrated(load: float, variation: float, users: int) -> None:
    told = [job for job in world(load, variation, users).told if job.arrived > WARM_UP and job.wait.p90 > 0]
    before_p50, before_p90 = shares(told)
    assert 0.40 <= before_p50 <= 0.60
    assert 0.80 <= before_p90 <= 0.95
    for tier in TIERS:
        before_p50, before_p90 = shares([job for job in told if job.tier == tier])
        assert 0.33 <= before_p50 <= 0.67, tier
        assert 0.75 <= before_p90 <= 0.97, tier


def test_a_burst_is_told_the_truth_once_it_has_arrived() -> None:
    made = World(SLOTS, MEAN, lognormal(0.3), seed=2)
    made.variation = 0.3
    for tier, jobs in zip(TIERS, (5, 20, 30, 40, 60), strict=True):
        for _ in range(jobs):
            made.at(0.0, lambda tier=tier: made.submit(User(tier)))  # type: ignore[misc]
    probes: list[Told] = []

    def probe(tier: str) -> None:
        made.submit(User(tier))
        probes.append(made.told[-1])

    for tier in TIERS:
        made.at(61.0, lambda tier=tier: probe(tier))  # type: ignore[misc]  # the burst is no inflow any more
    made.run()
    for job in probes:
        assert job.actual <= job.wait.p90 + MEAN / SLOTS, job
        assert job.wait.p50 <= 1.4 * job.actual + MEAN / SLOTS, job
