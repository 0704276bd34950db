"""What is done between two steps, and for whom nobody waits."""

from collections import Counter, deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.scheduling import Batch, Decode, Encode, Entry, Errands
from gpu_worker.scheduling.errands import DECODE_PATIENCE, ENCODED_AT_ONCE
from tests.gpu_worker.scheduling.world import World


@dataclass
class Device:
    """Runs a world as the engine's loop does: one errand at a time, then a step of whom is prepared."""

    world: World = field(default_factory=World)
    errands: Errands = field(default_factory=Errands)
    prepared: set[Entry] = field(default_factory=set)
    denoised: list[Entry] = field(default_factory=list)
    done: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.ready("a", "b")

    def turn(self) -> tuple[Batch | None, Encode | Decode | None]:
        """The batch in view, and what was done: None for a step of it."""
        scheduler = self.world.scheduler
        batch = scheduler.next_batch(0.0)
        members = batch.entries if batch else ()
        errand = self.errands.choose(batch, {e for e in members if e not in self.prepared}, self.denoised)
        match errand:
            case Encode(entry):
                self.prepared.add(entry)
            case Decode(entry):
                self.denoised.remove(entry)
                self.done.append(entry)
            case None if batch is not None:
                present = tuple(entry for entry in members if entry in self.prepared)
                assert present, "no step of nobody"
                rows = sum(entry.rows for entry in present)
                made = Batch(batch.key, present, rows, rows, batch.aged)
                self.denoised += scheduler.step_done(made, 0.01, 0.0)
                self.errands.step_made(self.denoised)
        return batch, errand

    def know_step_times(self, key: str) -> None:
        """Until then batches grow a size at a time."""
        for _ in range(16):
            self.world.add(key, rows=1, steps=9)
        while len(self.world.scheduler) or self.denoised:
            self.turn()

    def until_step(self) -> tuple[list[Encode | Decode], Batch | None]:
        found: list[Encode | Decode] = []
        while True:
            batch, errand = self.turn()
            if errand is None:
                return found, batch
            found.append(errand)


def started(device: Device, key: str = "a", rank: int = 0, steps: int = 9) -> Entry:
    """An entry that has had its first step."""
    entry = device.world.add(key, rank, steps=steps)
    while not entry.started:
        device.until_step()
    return entry


def test_a_newcomer_is_encoded_and_in_the_next_step() -> None:
    device = Device()
    started(device)
    payer = device.world.add("b", rank=4)
    assert device.until_step()[0] == [Encode(payer)]
    assert payer.started


def test_who_comes_while_prompts_are_encoded_goes_first() -> None:
    device = Device()
    started(device)
    first, _ = [device.world.add() for _ in range(2)]
    assert device.turn()[1] == Encode(first)
    payer = device.world.add("b", rank=4)
    assert device.until_step()[0] == [Encode(payer)]


def test_a_crowd_is_encoded_a_few_at_a_time_and_a_payer_all_the_same() -> None:
    device = Device()
    device.know_step_times("b")
    for _ in range(3 * ENCODED_AT_ONCE):
        device.world.add("b", rows=1)
    for _ in range(ENCODED_AT_ONCE):
        device.turn()
    payer = device.world.add("a", rank=4, steps=1)
    assert device.until_step()[0] == [Encode(payer)]
    errands, batch = device.until_step()
    assert [type(errand) for errand in errands] == [Encode] * ENCODED_AT_ONCE + [Decode]
    assert batch is not None
    assert sum(entry.started for entry in batch.entries) == 2 * ENCODED_AT_ONCE


def test_a_riders_prompt_waits_for_a_payers_first_step() -> None:
    device = Device()
    payer = device.world.add(rank=4, rows=3)
    rider, _ = device.world.add(rows=1), device.world.add("b")
    assert device.until_step()[0] == [Encode(payer)]
    assert device.until_step()[0] == [Encode(rider)]


@pytest.mark.parametrize("rank", [0, 4])
def test_a_picture_waits_for_first_steps_of_its_tier_and_above_but_not_for_long(rank: int) -> None:
    device = Device()
    device.know_step_times("b")
    done = started(device, rank=rank, steps=1)
    assert device.denoised == [done]
    for _ in range(DECODE_PATIENCE):
        payer = device.world.add("b", rank=4, rows=1)
        assert device.until_step()[0] == [Encode(payer)]
    payer = device.world.add("b", rank=4, rows=1)
    assert device.until_step()[0] == [Encode(payer), Decode(done)]


def test_a_payers_picture_does_not_wait_for_free_newcomers() -> None:
    device = Device()
    payer = started(device, rank=4, steps=1)
    device.world.add()
    assert Decode(payer) in device.until_step()[0]


def test_without_a_step_pictures_follow_each_other() -> None:
    device = Device()
    pair = [device.world.add(steps=1) for _ in range(2)]
    device.until_step()
    assert device.until_step() == ([Decode(entry) for entry in pair], None)


KEYS = st.sampled_from(["a/1", "a/2", "b/1"])
ARRIVAL = st.tuples(KEYS, st.integers(0, 3), st.integers(1, 4), st.integers(1, 5))
WAVES = st.lists(st.lists(ARRIVAL, max_size=3), max_size=30)


@settings(max_examples=200, deadline=None)
@given(waves=WAVES)
def test_whatever_arrives_all_are_served_and_nobody_waits_for_a_lower_tier(
    waves: list[list[tuple[str, int, int, int]]],
) -> None:
    device, coming, entries = Device(), deque(waves), 0
    since: Counter[Entry] = Counter()  # steps that a finished request saw go by
    this_time: Counter[type] = Counter()
    while True:
        for key, rank, rows, steps in coming.popleft() if coming else ():
            device.world.add(key, rank, rows=rows, steps=steps)
            entries += 1
        batch, errand = device.turn()
        members = batch.entries if batch else ()
        newcomers = [entry.rank for entry in members if not entry.started]
        this_time[type(errand)] += 1
        match errand:
            case Encode(entry):
                assert entry in members
                assert entry is members[0] or entry.rank == max(newcomers)
                assert this_time[Encode] <= 4 * ENCODED_AT_ONCE
            case Decode(entry):
                assert all(rank < entry.rank for rank in newcomers) or since[entry] >= DECODE_PATIENCE
                assert batch is None or this_time[Decode] == 1
            case None:
                since.update(device.denoised)
                this_time.clear()
                if batch is None and not coming:
                    break
    assert len(device.done) == entries
