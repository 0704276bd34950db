"""What backlogged tiers get, against their weights: a real worker, a real broker, stand-in jobs."""

import random
from collections import Counter
from collections.abc import Mapping

from gpu_worker.bench.tables import show
from pingvas.billing import plans
from pingvas.billing.plans import Tier
from tasks.bench import driver
from tasks.bench.driver import PLACES, Driver, Work

STARTS = 1_500
SHARING = list(Tier)[1:]
MEAN_SECONDS = {Tier.STUDIO: 1.0, Tier.PRO: 3.0, Tier.STARTER: 2.0, Tier.FREE: 10.0}


def report(brokers: Mapping[str, str]) -> None:
    """Print each tier's share of the starts and of the GPU seconds, on each broker."""
    for name, url in brokers.items():
        with driver.running(url) as worker:
            _equal(name, worker)
            _unequal(name, worker)


def _equal(broker: str, worker: Driver) -> None:
    fair = _fair()
    works = [
        Work(tier, tier)
        for tier in SHARING
        for _ in range(int(STARTS * fair[tier] * 1.2) + PLACES)  # more than are started: all stay backlogged
    ]
    starts = Counter(work.label for work in _run(worker, works, STARTS))
    rows = [
        (tier.value, plans.table()[tier].weight, _percent(fair[tier]), _percent(starts[tier] / STARTS))
        for tier in SHARING
    ]
    title = f"{broker}: shares under full backlog, jobs of one length ({STARTS:,} starts, {PLACES} places)"
    show(title, ("tier", "weight", "fair", "starts"), rows)


def _unequal(broker: str, worker: Driver) -> None:
    """Lengths spread around a mean that is the longest where the weight is the smallest."""
    fair, chance = _fair(), random.Random(5)
    total = 1_200.0  # GPU seconds to share
    works = []
    for tier in SHARING:
        waiting = 0.0
        while waiting < 1.3 * fair[tier] * total + 4 * MEAN_SECONDS[tier]:
            seconds = MEAN_SECONDS[tier] * chance.uniform(0.2, 1.8)
            waiting += seconds
            works.append(Work(tier, f"{tier} {seconds:.3f}", gpu_seconds=seconds))
    starts: Counter[str] = Counter()
    used: Counter[str] = Counter()
    for work in _run(worker, works, len(works)):
        if sum(used.values()) >= total:
            break
        starts[work.queue] += 1
        used[work.queue] += work.gpu_seconds  # type: ignore[assignment]  # a Counter adds seconds as well
    rows = [
        (
            tier.value,
            MEAN_SECONDS[tier],
            _percent(fair[tier]),
            _percent(starts[tier] / starts.total()),
            _percent(used[tier] / used.total()),
        )
        for tier in SHARING
    ]
    title = f"{broker}: shares under full backlog, jobs of different lengths ({starts.total()} starts)"
    show(title, ("tier", "mean GPU seconds", "fair", "starts", "GPU seconds"), rows)


def _run(worker: Driver, works: list[Work], number: int) -> list[Work]:
    """Return the first `number` that start once all are waiting."""
    named = {work.label: work for work in works}
    with worker.held():
        worker.send(works)
        worker.release(PLACES)
        labels = worker.labels(len(works))
    return [named[label] for label in labels[:number]]


def _fair() -> dict[Tier, float]:
    weights = {tier: plans.table()[tier].weight for tier in SHARING}
    return {tier: weight / sum(weights.values()) for tier, weight in weights.items()}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
