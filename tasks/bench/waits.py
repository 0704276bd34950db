"""How long enterprise waits while all others are backlogged, and how soon an idle worker starts."""

import random
import time
from collections.abc import Mapping

from gpu_worker.bench.tables import percentile, show
from pingvas.billing.plans import Tier
from tasks.bench import driver
from tasks.bench.driver import PLACES, Driver, Work

JOB_SECONDS = 0.2
ARRIVALS = 100
IDLE_STARTS = 300
_OTHERS = list(Tier)[1:]


def report(brokers: Mapping[str, str]) -> None:
    """Print the waits on each broker."""
    saturated, idle = [], []
    for name, url in brokers.items():
        with driver.running(url) as worker:
            waits = _saturated(worker)
            saturated.append((name, *_spread([wait / JOB_SECONDS for wait in waits]), *_spread(waits)))
            starts = _idle(worker)
            idle.append((name, 1_000 * percentile(starts, 0.5), 1_000 * percentile(starts, 0.99)))
    columns = ("broker", "p50, jobs", "p99, jobs", "p50, s", "p99, s")
    title = f"Enterprise under saturation: {ARRIVALS} arrivals, {PLACES} places, jobs of {JOB_SECONDS} s"
    show(title, columns, saturated)
    show(f"Submit to start, idle worker, {IDLE_STARTS} jobs", ("broker", "p50, ms", "p99, ms"), idle)


def _saturated(worker: Driver) -> list[float]:
    """Seconds from the send to the start, one enterprise job after the other."""
    chance, waits = random.Random(7), []
    with worker.held():
        worker.send(Work(tier, "other", seconds=JOB_SECONDS) for _ in range(300) for tier in _OTHERS)
        worker.release(PLACES)
        worker.starts(PLACES)
        for _ in range(ARRIVALS):
            time.sleep(chance.uniform(0.5, 1.5) * JOB_SECONDS)  # at any moment of the others' jobs
            sent = time.monotonic()
            worker.send([Work(Tier.ENTERPRISE, "enterprise", seconds=JOB_SECONDS)])
            while (start := worker.starts(1)[0]).label != "enterprise":
                pass
            waits.append(start.at - sent)
        worker.drop()
    return waits


def _idle(worker: Driver) -> list[float]:
    waits = []
    for _ in range(IDLE_STARTS):
        sent = time.monotonic()
        worker.send([Work(Tier.PRO, "only")])
        waits.append(worker.starts(1)[0].at - sent)
    return waits


def _spread(values: list[float]) -> tuple[float, float]:
    return percentile(values, 0.5), percentile(values, 0.99)
