"""The ladder and its memory, without any model: who may fail, what is learnt, when more is dared."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.memory import Decision, Measures, Recovery, Rung, SizeKey
from gpu_worker.memory.ladder import Context, halved, next_rung
from gpu_worker.memory.recovery import CALM_AFTER, PROBE_AFTER
from gpu_worker.request import ModelSource

MODEL = ModelSource("a", "a", "sd15")
KEY = SizeKey(MODEL, 512, 512)
SMALL = SizeKey(MODEL, 256, 256)
LARGE = SizeKey(MODEL, 1024, 1024)


def fail(recovery: Recovery, rows: int, stage: str = "denoise", least: int = 1) -> tuple[Rung, int]:
    decision = recovery.after_oom(KEY, rows, stage, least)  # type: ignore[arg-type]
    return decision.rung, decision.rows


def climb(recovery: Recovery, rows: int, stage: str = "denoise", least: int = 1) -> list[tuple[Rung, int]]:
    """Every rung until the request fails, nothing ever helping."""
    rungs: list[tuple[Rung, int]] = []
    while not rungs or rungs[-1][0] is not Rung.FAIL:
        rungs.append(fail(recovery, rows, stage, least))
        rows = rungs[-1][1]
    return rungs


def test_the_whole_ladder_when_nothing_helps() -> None:
    free, halve, tile, offload, failed = Rung.FREE, Rung.HALVE, Rung.TILE, Rung.OFFLOAD, Rung.FAIL
    assert climb(Recovery(can_offload=True), 8, "denoise", 2) == [
        (free, 8),
        (halve, 4),
        (halve, 2),
        (offload, 2),
        (failed, 2),
    ]
    assert climb(Recovery(can_offload=True), 2, "decode") == [
        (free, 2),
        (halve, 1),
        (tile, 1),
        (offload, 1),
        (failed, 1),
    ]
    assert climb(Recovery(can_offload=True), 1, "load") == [(free, 1), (offload, 1), (failed, 1)]
    assert climb(Recovery(can_offload=False), 1, "encode") == [(free, 1), (failed, 1)]


def test_the_next_request_gets_the_ladder_anew() -> None:
    recovery = Recovery(can_offload=False)
    assert climb(recovery, 1) == climb(recovery, 1)


@given(
    st.sampled_from(["load", "encode", "denoise", "decode"]),
    st.integers(1, 64),
    st.integers(1, 4),
    st.sets(st.sampled_from([Rung.FREE, Rung.TILE, Rung.OFFLOAD])),
    st.booleans(),
)
def test_only_who_is_alone_may_fail(
    stage: str, rows: int, least: int, done: set[Rung], can_offload: bool
) -> None:
    rung = next_rung(Context(stage, rows, least, frozenset(done), can_offload))  # type: ignore[arg-type]
    assert rung not in done
    assert rung is not Rung.FAIL or stage == "load" or rows <= least
    assert rung is not Rung.HALVE or halved(rows, least) < rows
    assert rung is not Rung.OFFLOAD or can_offload


@given(
    st.lists(st.integers(1, 2), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.integers(0, 9),
)
def test_nobody_fails_who_fits_alone(requests: list[int], capacities: list[int], in_the_end: int) -> None:
    """Requests of one or two rows, one step each; the device's room for rows changes by the attempt."""
    recovery = Recovery(can_offload=False)
    waiting, served, failed = [*requests], 0, 0
    for attempt in range(1000):
        if not waiting:
            break
        room = capacities[attempt] if attempt < len(capacities) else in_the_end
        batch, rows = [waiting[0]], waiting[0]
        limit = recovery.row_limit(KEY)
        for request in waiting[1:]:
            if limit is None or rows + request <= limit:
                batch.append(request)
                rows += request
        if rows <= room:
            recovery.fitted(KEY, rows)
            served += len(batch)
            for request in batch:
                waiting.remove(request)
        elif recovery.after_oom(KEY, rows, least=min(batch)).rung is Rung.FAIL:
            assert len(batch) == 1
            assert batch[0] > room
            failed += 1
            waiting.remove(batch[0])
    assert not waiting
    assert served + failed == len(requests)


def test_what_fitted_is_remembered_per_size() -> None:
    recovery = Recovery(can_offload=False)
    assert recovery.row_limit(KEY) is None
    fail(recovery, 8)
    assert recovery.row_limit(KEY) is None  # freeing may have been enough
    assert fail(recovery, 8) == (Rung.HALVE, 4)
    assert recovery.row_limit(KEY) == 4
    assert recovery.row_limit(LARGE) == 4  # larger pictures hold no more
    assert recovery.row_limit(SMALL) is None
    assert recovery.row_limit(replace(LARGE, model=replace(MODEL, location="b"))) is None
    assert recovery.row_limit(KEY, "decode") is None


def test_more_is_dared_after_many_successes_and_later_each_time() -> None:
    recovery = Recovery(can_offload=False)
    fail(recovery, 8)
    fail(recovery, 8)
    wait = PROBE_AFTER
    for _ in range(3):
        for _ in range(wait - 1):
            recovery.fitted(KEY, 4)
        assert recovery.row_limit(KEY) == 4
        recovery.fitted(KEY, 4)
        assert recovery.row_limit(KEY) == 8
        assert fail(recovery, 8) == (Rung.HALVE, 4)  # nobody is evicted for a probe
        wait *= 2
    for _ in range(wait):
        recovery.fitted(KEY, 4)
    for _ in range(wait):
        recovery.fitted(KEY, 8)
    assert recovery.row_limit(KEY) == 16


def test_small_batches_do_not_raise_the_limit() -> None:
    recovery = Recovery(can_offload=False)
    fail(recovery, 8)
    fail(recovery, 8)
    for _ in range(10 * PROBE_AFTER):
        recovery.fitted(KEY, 2)
    assert recovery.row_limit(KEY) == 4


def test_beyond_the_largest_bucket_there_is_no_limit() -> None:
    recovery = Recovery(can_offload=False, buckets=(1, 2, 4))
    fail(recovery, 8)
    fail(recovery, 8)
    for _ in range(PROBE_AFTER):
        recovery.fitted(KEY, 4)
    assert recovery.row_limit(KEY) is None


def test_caches_are_freed_again_only_after_a_calm_time() -> None:
    recovery = Recovery(can_offload=False)
    assert fail(recovery, 8) == (Rung.FREE, 8)
    for _ in range(CALM_AFTER):
        recovery.fitted(KEY, 8)
    assert fail(recovery, 8) == (Rung.FREE, 8)
    recovery.fitted(KEY, 8)
    assert fail(recovery, 8) == (Rung.HALVE, 4)


def test_tiles_are_done_without_again_when_all_went_well() -> None:
    recovery = Recovery(can_offload=False)
    fail(recovery, 1, "decode")
    assert recovery.after_oom(KEY, 1, "decode") == Decision(Rung.TILE, 1)
    assert recovery.measures(KEY) == Measures(tiled=True)
    assert recovery.measures(LARGE) == Measures()
    for _ in range(PROBE_AFTER):
        recovery.fitted(KEY, 1, "decode")
    assert recovery.measures(KEY) == Measures()
    assert recovery.after_oom(KEY, 1, "decode") == Decision(Rung.TILE, 1)
    for _ in range(2 * PROBE_AFTER):
        assert recovery.measures(KEY).tiled
        recovery.fitted(KEY, 1, "decode")
    for _ in range(2 * PROBE_AFTER):
        recovery.fitted(KEY, 1, "decode")
    assert recovery.after_oom(KEY, 1, "decode").rung is Rung.FREE  # that was long ago


def test_offloading_holds_for_the_model_at_every_size() -> None:
    recovery = Recovery(can_offload=True)
    climb(recovery, 1)
    assert recovery.measures(SMALL) == Measures(offloaded=True)
    assert fail(recovery, 1) == (Rung.FREE, 1)
    assert fail(recovery, 1) == (Rung.FAIL, 1)
