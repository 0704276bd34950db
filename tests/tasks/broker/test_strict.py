"""PINGVAS_QUEUE_ORDER=strict, with a real worker on a real broker."""

from collections.abc import Iterator

import pytest

from pingvas.billing.plans import Tier
from tasks.bench import driver
from tasks.bench.driver import Driver, Work


@pytest.fixture(scope="module")
def worker(broker_url: str, broker: str) -> Iterator[Driver]:
    with driver.running(broker_url, environment={"PINGVAS_QUEUE_ORDER": "strict"}) as running:
        yield running


def test_a_tier_is_served_once_those_above_are_empty(worker: Driver) -> None:
    with worker.held():
        worker.send(Work(tier, tier) for tier in reversed(Tier) for _ in range(10))
        worker.release()
        assert worker.labels(50) == [tier for tier in Tier for _ in range(10)]
