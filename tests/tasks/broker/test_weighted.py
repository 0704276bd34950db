"""What a real worker takes from a real broker, and when. One place is free, so the order is exact."""

from collections import Counter
from collections.abc import Iterator

import pytest

from pingvas.jobs import routing
from pingvas.jobs.dispatch import BATCH_PRIORITY, INTERACTIVE_PRIORITY, RETRY_PRIORITY
from tasks.bench import driver
from tasks.bench.driver import PLACES, Driver, Work

SHARES = {"studio": 8 / 15, "pro": 4 / 15, "starter": 2 / 15, "free": 1 / 15}


@pytest.fixture(scope="module")
def worker(broker_url: str, broker: str) -> Iterator[Driver]:
    with driver.running(broker_url, [*routing.all_queues(), routing.CONTROL]) as running:
        yield running


def backlog(**messages: int) -> list[Work]:
    return [Work(tier, tier) for tier, number in messages.items() for _ in range(number)]


def test_backlogged_tiers_share_messages_by_weight(worker: Driver) -> None:
    with worker.held():
        worker.send(backlog(free=15, starter=25, pro=45, studio=85))
        worker.release()
        assert Counter(worker.labels(150)) == {"studio": 80, "pro": 40, "starter": 20, "free": 10}
        worker.starts(20)


def test_backlogged_tiers_share_gpu_seconds_by_weight(worker: Driver) -> None:
    """The higher the tier, the shorter its jobs: by messages free would get half of the time."""
    cost = {"studio": 1.0, "pro": 2.0, "starter": 4.0, "free": 8.0}
    number = {"studio": 330, "pro": 90, "starter": 25, "free": 8}
    with worker.held():
        worker.send(Work(tier, tier, cost[tier]) for tier in cost for _ in range(number[tier]))
        worker.release()
        started = worker.labels(420)
        worker.starts(sum(number.values()) - 420)
    used = {tier: cost[tier] * started.count(tier) for tier in cost}
    assert {tier: used[tier] / sum(used.values()) for tier in cost} == pytest.approx(SHARES, abs=0.02)


def test_an_idle_tier_banks_nothing(worker: Driver) -> None:
    with worker.held():
        worker.send(backlog(studio=60, pro=60))
        worker.release()
        worker.starts(120)
        worker.hold()
        worker.send(backlog(free=30, starter=30, pro=45, studio=85))
        worker.release()
        assert Counter(worker.labels(150))["free"] in (10, 11)
        worker.starts(40)


def test_priorities_count_inside_a_queue_only(worker: Driver) -> None:
    levels = {"batch": BATCH_PRIORITY, "interactive": INTERACTIVE_PRIORITY, "retry": RETRY_PRIORITY}
    with worker.held():
        for name, priority in levels.items():
            worker.send(Work(tier, f"{tier} {name}", priority=priority) for tier in ("free", "enterprise"))
        worker.release()
        expected = [f"{tier} {name}" for tier in ("enterprise", "free") for name in reversed(levels)]
        assert worker.labels(6) == expected


def test_enterprise_overtakes_all_that_wait(worker: Driver) -> None:
    """Also what a worker with full hands might have reserved."""
    with worker.held():
        worker.send(backlog(free=20, studio=20))
        worker.ping()
        worker.send(backlog(enterprise=1))
        worker.release(PLACES)
        assert worker.labels(1) == ["enterprise"]
        worker.starts(40)


def test_queues_of_one_tier_take_turns_and_have_one_share(worker: Driver) -> None:
    families = ["free.sd", "free.sdxl", "free.flux"]
    with worker.held():
        worker.send(Work(queue, queue) for queue in families for _ in range(5))
        worker.send(backlog(starter=25))
        worker.release()
        started = worker.labels(30)
        worker.starts(10)
    assert started.count("starter") == 20
    free = [label for label in started if label != "starter"]
    assert all(set(free[turn : turn + 3]) == set(families) for turn in range(0, 9, 3))


def test_control_work_goes_before_all_tiers(worker: Driver) -> None:
    with worker.held():
        worker.send(backlog(enterprise=2, control=1))
        worker.release()
        assert worker.labels(3) == ["control", "enterprise", "enterprise"]


def test_nothing_waits_for_a_worker_that_is_idle(worker: Driver) -> None:
    for queue in ("free", "enterprise", "free.sd", "control"):
        for priority in (BATCH_PRIORITY, INTERACTIVE_PRIORITY, RETRY_PRIORITY):
            worker.send([Work(queue, queue, priority=priority)])
            assert worker.labels(1) == [queue]
