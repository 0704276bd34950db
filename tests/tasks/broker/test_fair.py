"""The order of the queues by itself, in time of its own: no broker, no clock."""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.broker.fair import FairOrder

WEIGHTS = {"enterprise": 16.0, "studio": 8.0, "pro": 4.0, "starter": 2.0, "free": 1.0}
SHARING = [tier for tier in WEIGHTS if tier != "enterprise"]
ALL = sum(WEIGHTS[tier] for tier in SHARING)

examples = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32)

Costs = Callable[[str], float]


def one(_: str) -> float:
    return 1.0


class World:
    """A worker with some places whose jobs end in the order of their starts."""

    def __init__(self, places: int = 1, strict: bool = False) -> None:
        self.order = FairOrder(WEIGHTS, strict=strict)
        self.places = places
        self.running: deque[tuple[str, float]] = deque()
        self.used: Counter[str] = Counter()

    def step(self, backlogged: Iterable[str], cost: Costs = one) -> str:
        """Serve the first backlogged queue, once a place is free."""
        waiting = set(backlogged)
        if len(self.running) == self.places:
            self.order.settle(*self.running.popleft())
        queue = next(q for q in self.order.order([*WEIGHTS]) if q in waiting)
        self.order.served(queue)
        spent = cost(queue)
        self.running.append((queue, spent))
        self.used[queue] += spent  # type: ignore[assignment]  # a Counter adds seconds as well
        return queue

    def run(self, steps: int, backlogged: Iterable[str] = SHARING, cost: Costs = one) -> list[str]:
        return [self.step(backlogged, cost) for _ in range(steps)]


def test_messages_of_one_cost_are_shared_exactly() -> None:
    assert Counter(World().run(150)) == {"studio": 80, "pro": 40, "starter": 20, "free": 10}


@pytest.mark.parametrize("before", SHARING)
def test_a_short_burst_is_shared_by_weight_too(before: str) -> None:
    """A worker of a large fleet takes few jobs of a burst; no tier may win by many beginnings."""
    world, served = World(), Counter[str]()
    for _ in range(100):
        world.run(20, [before])
        served.update(world.run(8))
    for tier in SHARING:
        assert served[tier] / 800 == pytest.approx(WEIGHTS[tier] / ALL, abs=0.1)


def test_no_tier_is_a_whole_job_off_its_share_at_any_time() -> None:
    served, world = Counter[str](), World()
    for number in range(1, 151):
        served[world.step(SHARING)] += 1
        assert all(abs(served[tier] - number * WEIGHTS[tier] / ALL) < 1 for tier in SHARING)


@given(costs=st.lists(st.floats(0.5, 20.0), min_size=4, max_size=4), seed=seeds, places=st.integers(1, 8))
@examples
def test_gpu_seconds_are_shared_by_weight_whatever_jobs_cost(
    costs: list[float], seed: int, places: int
) -> None:
    world, chance, mean = World(places), random.Random(seed), dict(zip(SHARING, costs, strict=True))
    most = 2 * max(costs)
    while sum(world.used.values()) < 50 * most:
        world.step(SHARING, lambda tier: mean[tier] * chance.uniform(0, 2))
    for tier in SHARING:
        fair = WEIGHTS[tier] / ALL * sum(world.used.values())
        # Not yet exact: what the jobs in flight cost, and one job's start too early or too late.
        assert abs(world.used[tier] - fair) <= (places + 1) * most


@given(idle=st.sampled_from(SHARING), alone=st.integers(1, 500), places=st.integers(1, 4))
@examples
def test_an_idle_tier_banks_nothing(idle: str, alone: int, places: int) -> None:
    world = World(places)
    world.run(alone, [tier for tier in SHARING if tier != idle])
    served = Counter(world.run(150))
    assert served[idle] <= 150 * WEIGHTS[idle] / ALL + 1 + places


@given(seed=seeds, tier=st.sampled_from(SHARING), places=st.integers(1, 4))
@examples
def test_who_waits_is_served_within_its_share(seed: int, tier: str, places: int) -> None:
    """Others come and go as they like: a waiting tier is passed over by so many jobs at most."""
    world, chance, passed = World(places), random.Random(seed), 0
    for _ in range(200):
        others = chance.sample(SHARING, chance.randint(0, len(SHARING)))
        passed = 0 if world.step({tier, *others}) == tier else passed + 1
        assert passed <= ALL / WEIGHTS[tier] + len(SHARING)


@given(st.lists(st.sampled_from(SHARING), max_size=50), st.lists(st.floats(0, 1000), max_size=50))
def test_the_first_tier_goes_before_all_and_changes_nothing_for_the_others(
    history: list[str], costs: list[float]
) -> None:
    order, without = FairOrder(WEIGHTS), FairOrder(WEIGHTS)
    for queue, cost in zip(history, costs, strict=False):
        for each in (order, without):
            each.served(queue)
            each.settle(queue, cost)
        order.served("enterprise")
        order.settle("enterprise", cost)
    found = order.order([*WEIGHTS])
    assert found[0] == "enterprise"
    assert found[1:] == without.order(SHARING)


def test_long_jobs_do_not_eat_the_tiers_of_short_ones() -> None:
    """The first long job is paid off before the next: nobody knew what it would cost."""
    world = World()
    served = world.run(3_000, ["pro", "free"], lambda tier: 60.0 if tier == "free" else 1.0)
    assert served.count("pro") / served.count("free") == pytest.approx(4 * 60, rel=0.1)
    assert world.used["pro"] / world.used["free"] == pytest.approx(4, rel=0.1)


def test_a_correction_waits_for_the_next_ordering() -> None:
    """Else `served` would read tags that the message was not looked for by."""
    order = FairOrder(WEIGHTS)
    order.served("studio")
    order.order([*WEIGHTS])
    order.settle("studio", 80.0)
    order.served("pro")
    assert order.order(["studio", "pro", "starter"]) == ["starter", "pro", "studio"]


@pytest.mark.parametrize("strict", [False, True])
def test_queues_of_one_tier_take_turns(strict: bool) -> None:
    order = FairOrder(WEIGHTS, strict=strict)
    queues = ["free", "free.sd", "free.sdxl", "pro.sd", "pro.sdxl"]
    served: dict[str, list[str]] = {"free": [], "pro": []}
    for _ in range(60):
        for tier in ("free", "pro"):
            first = next(q for q in order.order(queues) if q.startswith(tier))
            order.served(first)
            served[tier].append(first)
    assert served["free"] == ["free", "free.sd", "free.sdxl"] * 20
    assert served["pro"] == ["pro.sd", "pro.sdxl"] * 30


def test_a_tier_has_one_share_in_how_many_queues_it_may_wait() -> None:
    order = FairOrder(WEIGHTS)
    served = []
    for _ in range(50):
        served.append(order.order(["free.sd", "free.sdxl", "free.flux", "pro.sd"])[0])
        order.served(served[-1])
    assert served.count("pro.sd") == 40


def test_strict_is_the_order_of_the_tiers() -> None:
    world = World(strict=True)
    assert set(world.run(100)) == {"studio"}
    assert world.order.order(["control", "free", "pro", "enterprise"]) == [
        "control",
        "enterprise",
        "pro",
        "free",
    ]
