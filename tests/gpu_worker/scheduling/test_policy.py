"""What the scheduler picks, case by case."""

import subprocess
import sys
from dataclasses import replace

import pytest

from gpu_worker.scheduling import Batch, Entry, Scheduler, SchedulingConfig
from tests.gpu_worker.scheduling.world import World

BUCKETS = (1, 2, 4, 8, 16)
CONFIG = SchedulingConfig(step_budget_seconds=10.0, buckets=BUCKETS)


@pytest.fixture
def world() -> World:
    world = World(CONFIG)
    world.ready("a", "b")
    return world


def leaders(batches: list[Batch]) -> list[str]:
    return [batch.entries[0].id for batch in batches]


def test_a_newcomer_of_the_same_key_joins_at_the_next_step(world: World) -> None:
    first = world.add("a")
    world.step()
    second = world.add("a")
    assert world.pick() == [first.id, second.id]


def test_a_higher_tier_takes_the_next_step_and_the_lower_one_goes_on_afterwards(world: World) -> None:
    free = world.add("a", steps=5)
    world.step()
    payer = world.add("b", rank=4, steps=2)
    assert leaders(world.steps(4)) == [payer.id, payer.id, free.id, free.id]


def test_a_started_request_comes_before_an_older_newcomer_of_another_key(world: World) -> None:
    world.add("a", steps=3)
    waiting = world.add("b")
    world.step()
    joiner = world.add("a", steps=3)
    batches = world.steps(3)
    assert joiner in batches[0].entries
    assert {batch.key for batch in batches} == {"a"}
    assert world.pick() == [waiting.id]


def test_an_incompatible_head_of_line_is_looked_past_a_bounded_number_of_times() -> None:
    world = World(replace(CONFIG, look_past=3))
    world.ready("a", "b")
    world.add("a", steps=9)  # older than the head: it may finish first
    head = world.add("b")
    for _ in range(9):
        world.add("a", steps=20)
        assert head.id not in world.first_tick
        world.step()
    assert head.passed == 3
    assert world.pick() == [head.id]


def test_a_large_request_that_does_not_fit_yet_is_not_overtaken_for_ever() -> None:
    world = World(replace(CONFIG, look_past=2, max_rows=4, buckets=(1, 2, 4)))
    world.ready("a")
    world.add("a", rows=2, steps=3)
    world.steps(1)
    large = world.add("a", rows=4, steps=1)
    for _ in range(20):
        world.add("a", rows=2, steps=3)
        world.step()
    assert large.id in world.done_tick
    assert large.passed <= 2


def test_a_request_above_the_row_limit_runs_alone(world: World) -> None:
    large = world.add("a", rows=24)
    world.add("a")
    batch = world.step()
    assert batch is not None
    assert (batch.entries, batch.rows, batch.padded_rows) == ((large,), 24, 24)


def test_a_row_limit_shrinks_the_batch_and_padding_stays_within_it(world: World) -> None:
    for _ in range(4):
        world.add("a", rows=2)
    world.steps(3)
    assert len(world.pick()) == 4
    world.scheduler.set_row_limit("a", 6)
    batch = world.scheduler.next_batch(world.now)
    assert batch is not None
    assert (batch.rows, batch.padded_rows) == (4, 4)  # six rows would be padded to eight
    world.scheduler.set_row_limit("a", None)
    assert len(world.pick()) == 4


def test_a_request_whose_padding_would_not_fit_shares_its_step_with_nobody(world: World) -> None:
    world.scheduler.set_row_limit("a", 6)
    large, _ = world.add("a", rows=5), world.add("a", rows=1)
    assert world.pick() == [large.id]


def test_batches_stay_within_the_step_budget_once_times_are_known() -> None:
    world = World(SchedulingConfig(step_budget_seconds=0.11, buckets=BUCKETS))  # 0.02 + 0.01 * 8 = 0.10
    world.ready("a")
    for _ in range(20):
        world.add("a", steps=30)
    sizes = [batch.padded_rows for batch in world.steps(12)]
    assert sizes == [4, 8] + [8] * 10  # the line through two sizes forbids to try 16


def test_the_budget_can_be_lifted_while_nobody_else_waits() -> None:
    world = World(SchedulingConfig(step_budget_seconds=0.03, lift_time_cap_when_alone=True))
    world.ready("a")
    for _ in range(8):
        world.add("a", steps=30)
    world.steps(6)
    assert len(world.pick()) == 8
    world.add("b")
    world.steps(3)  # four rows were run once only on the way up
    assert len(world.pick()) == 1


def test_slow_first_steps_of_a_size_do_not_rule_it_out() -> None:
    seen = {2}

    def compiles(key: object, rows: int) -> float:
        first = rows not in seen
        seen.add(rows)
        return 5.0 if first else 0.05

    world = World(SchedulingConfig(), compiles)
    world.ready("a")
    world.add("a", steps=60)
    world.steps(5)
    for _ in range(7):
        world.add("a", steps=60)
    world.steps(20)
    assert len(world.pick()) == 8


def test_lower_tiers_fill_up_padding_but_do_not_slow_a_payer_down() -> None:
    world = World(CONFIG)
    world.ready("a")
    for _ in range(8):
        world.add("a", rank=0, rows=1, steps=90)
    world.steps(6)  # learns the times
    payer = world.add("a", rank=4, rows=3, steps=9)
    batch = world.step()
    assert batch is not None
    assert batch.entries[0] is payer
    assert (batch.rows, len(batch.entries)) == (4, 2)


def test_riders_are_welcome_where_a_larger_step_takes_hardly_longer() -> None:
    world = World(CONFIG, lambda key, rows: 0.1 + 0.001 * rows)
    world.ready("a")
    for _ in range(8):
        world.add("a", rank=0, rows=2, steps=90)
    world.steps(6)
    payer = world.add("a", rank=4, rows=2, steps=9)
    batch = world.step()
    assert batch is not None
    assert (batch.entries[0], batch.rows) == (payer, 16)


@pytest.mark.parametrize(("rank", "rows"), [(0, 8), (4, 9)])
def test_free_requests_sit_out_a_step_that_would_be_mostly_padding(rank: int, rows: int) -> None:
    world = World(CONFIG)
    world.ready("a")
    for _ in range(16):
        world.add("a", rank=rank, rows=1, steps=5)
    world.steps(5 + 3 + 1)
    while len(world.scheduler):
        world.step()
    for _ in range(9):
        world.add("a", rank=rank, rows=1)
    assert len(world.pick()) == rows


def test_at_most_max_active_requests_of_a_tier_are_started() -> None:
    world = World(replace(CONFIG, max_active=3))
    world.ready("a")
    entries = [world.add("a", steps=9) for _ in range(5)]
    world.steps(4)
    payer = world.add("a", rank=4, steps=3)
    world.step()
    assert [entry.started for entry in [*entries, payer]] == [True, True, True, False, False, True]


def test_cancelled_and_late_requests_leave_before_the_next_step(world: World) -> None:
    late, cancelled, stays = world.add(deadline=5.0), world.add(), world.add()
    assert world.scheduler.cancel(cancelled.id)
    assert not world.scheduler.cancel("unknown")
    world.now = 5.0
    assert world.pick() == [stays.id]
    assert world.scheduler.due(world.now) == [late, cancelled]
    assert len(world.scheduler) == 1


def test_a_request_cancelled_during_its_last_step_is_due_and_not_finished(world: World) -> None:
    entry = world.add(steps=1)
    batch = world.scheduler.next_batch(0.0)
    assert batch is not None
    world.scheduler.cancel(entry.id)
    assert world.scheduler.step_done(batch, 0.1, 0.1) == []
    assert world.scheduler.next_batch(0.1) is None
    assert world.scheduler.due(0.1) == [entry]


def test_a_request_removed_during_its_step_is_charged_and_gone(world: World) -> None:
    entry = world.add(steps=1)
    batch = world.scheduler.next_batch(0.0)
    assert batch is not None
    assert world.scheduler.remove(entry.id) is entry
    assert world.scheduler.remove(entry.id) is None
    assert world.scheduler.step_done(batch, 0.5, 0.5) == []
    assert entry.gpu_seconds == 0.5


def test_gpu_seconds_are_shared_by_rows(world: World) -> None:
    one, two = world.add(rank=0, rows=1), world.add(rank=2, rows=3)
    batch = world.scheduler.next_batch(0.0)
    assert batch is not None
    assert set(batch.entries) == {one, two}
    world.scheduler.step_done(batch, 4.0, 4.0)
    world.scheduler.charge(one, 0.5)
    assert (one.gpu_seconds, two.gpu_seconds) == (1.5, 3.0)
    assert world.scheduler.served() == {0: 1.5, 2: 3.0}


def test_a_decision_changes_nothing_until_its_step_is_done(world: World) -> None:
    world.add("a")
    world.add("b")
    assert world.pick() == world.pick()


def test_times_may_come_after_the_steps(world: World) -> None:
    world.add(steps=2)
    batch = world.scheduler.next_batch(0.0)
    assert batch is not None
    assert world.scheduler.advance(batch, 0.0) == []
    assert [e.id for e in world.scheduler.advance(batch, 0.0)] == ["1"]
    world.scheduler.timed(batch, 1.0)
    assert world.scheduler.served() == {0: 1.0}


def test_malformed_entries_and_numbers_are_refused(world: World) -> None:
    entry = world.add()
    with pytest.raises(ValueError, match="already"):
        world.scheduler.add(entry)
    with pytest.raises(ValueError, match="at least 1"):
        world.add(rows=0)
    batch = world.scheduler.next_batch(0.0)
    assert batch is not None
    with pytest.raises(ValueError, match="seconds"):
        world.scheduler.step_done(batch, -1.0, 0.0)
    for wrong in ({"max_rows": 0}, {"ageing_steps": 1}, {"rider_slack": 0.5}, {"buckets": (4, 2)}):
        with pytest.raises(ValueError, match="must"):
            SchedulingConfig(**wrong)


def test_it_needs_no_torch() -> None:
    code = "import sys, gpu_worker.scheduling; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unpadded_scheduler_fills_any_number_of_rows() -> None:
    scheduler = Scheduler(SchedulingConfig(buckets=(), max_rows=5))
    scheduler.set_ready("a", True)
    for number in range(8):
        scheduler.add(Entry(str(number), "a", "a", 0, 1, 20, 0.0))
    for _ in range(6):
        batch = scheduler.next_batch(0.0)
        assert batch is not None
        scheduler.step_done(batch, 0.01, 0.0)
    assert batch is not None
    assert (batch.rows, batch.padded_rows) == (5, 5)
