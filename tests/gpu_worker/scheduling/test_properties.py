"""What holds under any sequence of events."""

from collections import Counter
from collections.abc import Hashable
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gpu_worker.scheduling import Batch, Entry, Scheduler, SchedulingConfig
from gpu_worker.scheduling.step_times import TRUSTED
from tests.gpu_worker.scheduling.world import World, even

RANKS = st.integers(0, 4)
KEYS = st.sampled_from(["a/1", "a/2", "b/1", "c/1"])
ROWS = st.integers(1, 5)
STEPS = st.integers(1, 6)
QUIET = settings(max_examples=60, stateful_step_count=50, deadline=None)
CONFIG = SchedulingConfig(
    max_rows=8, buckets=(1, 2, 4, 8), step_budget_seconds=0.07, ageing_steps=4, look_past=2, max_active=3
)


class AnyEvents(RuleBasedStateMachine):
    """Arrivals, cancels, deadlines, a model (`c`) that comes and goes, row limits; each step is checked."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(CONFIG)
        self.now = 0.0
        self.ids = count()
        self.entries: dict[str, Entry] = {}
        self.ready: set[Hashable] = set()
        self.limits: dict[str, int] = {}
        self.fed = 0.0
        self.all: list[Entry] = []
        self.since_aged = CONFIG.ageing_steps
        self.too_long: Counter[tuple[Hashable, int]] = Counter()
        for model in ("a", "b"):
            self.scheduler.set_ready(model, True)
            self.ready.add(model)

    @rule(rank=RANKS, key=KEYS, steps=STEPS, sizes=st.lists(ROWS, min_size=1, max_size=4), late=st.booleans())
    def add(self, rank: int, key: str, steps: int, sizes: list[int], late: bool) -> None:
        for rows in sizes:
            deadline = self.now + 0.1 * rows if late else None
            entry = Entry(str(next(self.ids)), key, key[0], rank, rows, steps, self.now, deadline)
            self.scheduler.add(entry)
            self.entries[entry.id] = entry
            self.all.append(entry)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.entries:
            assert self.scheduler.cancel(data.draw(st.sampled_from(sorted(self.entries))))

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.entries:
            entry_id = data.draw(st.sampled_from(sorted(self.entries)))
            assert self.scheduler.remove(entry_id) is self.entries.pop(entry_id)

    @rule(ready=st.booleans())
    def turn_ready(self, ready: bool) -> None:
        self.scheduler.set_ready("c", ready)
        (self.ready.add if ready else self.ready.discard)("c")

    @rule(key=KEYS, rows=st.none() | st.integers(1, 8))
    def limit(self, key: str, rows: int | None) -> None:
        self.scheduler.set_row_limit(key, rows)
        self.limits[key] = rows or CONFIG.max_rows

    @rule(seconds=st.floats(0.0, 1.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(steps=st.integers(1, 4))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.one_step()

    def one_step(self) -> None:
        for entry in self.scheduler.due(self.now):
            assert entry.is_due(self.now)
            del self.entries[entry.id]
        assert not any(entry.is_due(self.now) for entry in self.entries.values())
        runnable = [entry for entry in self.entries.values() if entry.model in self.ready]
        batch = self.scheduler.next_batch(self.now)
        assert batch == self.scheduler.next_batch(self.now)
        assert (batch is None) == (not runnable), "work conservation"
        if batch is not None:
            self.check(batch, runnable)
            self.finish(batch)

    def check(self, batch: Batch, runnable: list[Entry]) -> None:
        leader, limit = batch.entries[0], self.limits.get(str(batch.key), CONFIG.max_rows)
        assert len(set(batch.entries)) == len(batch.entries)
        assert all(entry in runnable and entry.key == batch.key for entry in batch.entries)
        assert batch.rows == sum(entry.rows for entry in batch.entries)
        assert batch.rows <= max(limit, leader.rows)
        if CONFIG.padded(leader.rows) <= limit:
            assert batch.padded_rows <= limit
        else:
            assert batch.entries == (leader,)
        self.check_rank(batch, max(entry.rank for entry in runnable))
        self.check_order(batch, runnable)
        longest = max(CONFIG.step_budget_seconds, even(batch.key, CONFIG.padded(leader.rows)))
        if even(batch.key, batch.padded_rows) > longest + 1e-9:
            self.too_long[batch.key, batch.padded_rows] += 1
            assert self.too_long[batch.key, batch.padded_rows] <= TRUSTED, "tried, then never again"

    def check_rank(self, batch: Batch, top: int) -> None:
        assert batch.aged == (batch.entries[0].rank < top)
        if batch.aged:
            assert self.since_aged >= CONFIG.ageing_steps - 1, "one aged step, then the order holds"
        self.since_aged = 0 if batch.aged else self.since_aged + 1

    def check_order(self, batch: Batch, runnable: list[Entry]) -> None:
        newcomers = [entry for entry in batch.entries if not entry.started]
        for other in runnable:
            if other.started or other in batch.entries:
                continue
            for entry in newcomers:
                if (entry.rank, entry.key) == (other.rank, other.key) and entry.rows >= other.rows:
                    assert entry.age_order < other.age_order, "first come, first served"

    def finish(self, batch: Batch) -> None:
        seconds = even(batch.key, batch.padded_rows)
        self.now += seconds
        self.fed += seconds
        for entry in self.scheduler.step_done(batch, seconds, self.now):
            assert entry.steps_left == 0
            del self.entries[entry.id]
        always = [entry for entry in self.entries.values() if entry.model != "c"]
        assert all(entry.passed <= CONFIG.look_past for entry in always), "looked past too often"
        active = Counter(entry.rank for entry in always if entry.started)
        assert all(number <= CONFIG.max_active for number in active.values())

    @invariant()
    def accounts_balance(self) -> None:
        assert len(self.scheduler) == len(self.entries)
        assert sum(self.scheduler.served().values()) == pytest.approx(self.fed)
        assert sum(entry.gpu_seconds for entry in self.all) == pytest.approx(self.fed)

    @invariant()
    def wanted_names_each_model_once_and_the_first_for_the_highest(self) -> None:
        live = [entry for entry in self.entries.values() if not entry.is_due(self.now)]
        wanted = self.scheduler.wanted(self.now)
        assert len(set(wanted)) == len(wanted)
        assert set(wanted) == {entry.model for entry in live}
        top = max((entry.rank for entry in live), default=None)
        assert not wanted or wanted[0] in {entry.model for entry in live if entry.rank == top}


TestAnyEvents = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")(AnyEvents.TestCase)
TestAnyEvents.settings = QUIET

arrival = st.tuples(RANKS, KEYS, ROWS, STEPS)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.lists(arrival, max_size=8),
    tracked=arrival,
    flood=st.lists(st.lists(arrival, max_size=3), min_size=1, max_size=8),
)
def test_every_ready_entry_is_done_within_a_bound_whatever_keeps_arriving(
    before: list[tuple[int, str, int, int]],
    tracked: tuple[int, str, int, int],
    flood: list[list[tuple[int, str, int, int]]],
) -> None:
    """The bound: its tier's line moves once in so many steps, and only so much work gets before it there."""
    world = World(CONFIG)
    world.ready("a", "b", "c")
    ahead = [world.add(key, rank, rows=rows, steps=steps) for rank, key, rows, steps in before]
    rank, key, rows, steps = tracked
    entry = world.add(key, rank, rows=rows, steps=steps)
    tier_steps = sum(e.steps_left for e in ahead if e.rank == rank) + CONFIG.look_past * 6 + steps
    bound = tier_steps * CONFIG.ageing_steps * 6
    for tick in range(bound):
        for other, name, width, length in flood[tick % len(flood)]:
            if len(world.scheduler) < 60:  # more only makes the test slow
                world.add(name, other, rows=width, steps=length)
        assert world.step() is not None
        if entry.id in world.done_tick:
            return
    pytest.fail(f"not done after {bound} steps")


@settings(max_examples=40, deadline=None)
@given(work=st.lists(arrival, min_size=1, max_size=20), ticks=st.integers(0, 30), key=KEYS, rows=ROWS)
def test_a_payer_is_in_the_next_step_but_for_one_aged_step(
    work: list[tuple[int, str, int, int]], ticks: int, key: str, rows: int
) -> None:
    world = World(CONFIG)
    world.ready("a", "b", "c")
    for rank, name, width, length in work:
        world.add(name, min(rank, 3), rows=width, steps=length)
    world.steps(ticks)
    payer = world.add(key, rank=4, rows=rows, steps=1)
    first, *rest = world.steps(2)
    assert payer in first.entries or (first.aged and payer in rest[0].entries)


@pytest.mark.parametrize("lower", [(0,), (0, 1, 2, 3)])
@pytest.mark.parametrize("queue", [8, 12])  # 16 rows are 8 requests: nobody, or some wait for a first step
def test_under_permanent_saturation_ageing_takes_its_share_and_no_more(
    lower: tuple[int, ...], queue: int
) -> None:
    world = World(SchedulingConfig())
    world.ready("a", *(f"b{rank}" for rank in lower))
    for rank in lower:
        world.add(f"b{rank}", rank, steps=10_000)
    waits = dict.fromkeys(lower, 0)
    longest = aged = 0
    for _ in range(2000):
        while len(world.scheduler) < queue + len(lower):
            world.add("a", rank=4, steps=200)
        batch = world.step()
        assert batch is not None
        aged += batch.aged
        waits = {rank: wait + 1 for rank, wait in waits.items()}
        if batch.aged:
            waits[batch.entries[0].rank] = 0
        longest = max(longest, *waits.values())
    steps = SchedulingConfig().ageing_steps
    every = 2 * steps if queue == 12 and lower == (0,) else steps
    assert aged == pytest.approx(2000 / every, abs=3)
    assert longest <= steps * (len(lower) + 2)
