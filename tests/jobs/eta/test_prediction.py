"""The prediction is arithmetic on a picture: what it must say in plain situations."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingvas.jobs.eta.prediction import Newcomer, Pool, TierLoad, Wait, joined, predict
from tests.jobs.eta.world import CLASSES, TIERS, WEIGHTS

POOL = Pool(4, CLASSES, WEIGHTS, seconds=2.0, variation=0.3, pickup=Wait(0.01, 0.05))
BUSY = {tier: TierLoad(running=1 if tier != "free" else 0, seconds=2.0) for tier in TIERS}


def loads(**changed: TierLoad) -> dict[str, TierLoad]:
    return {**BUSY, **changed}


def test_a_free_slot_means_the_time_it_takes_to_pick_a_job_up() -> None:
    idle = {tier: TierLoad() for tier in TIERS}
    assert predict(idle, POOL, Newcomer("free", 0)) == POOL.pickup
    waiting = idle | {"pro": TierLoad(rung=3)}
    assert predict(waiting, POOL, Newcomer("free", 0)) == POOL.pickup
    assert predict(waiting, POOL, Newcomer("free", 1)).p50 > 0.1


def test_the_whole_cluster_works_for_a_tier_that_is_alone() -> None:
    wait = predict(loads(free=TierLoad(rung=100, seconds=2.0)), POOL, Newcomer("free", 100))
    assert 45 < wait.p50 < 55  # 100 jobs of 2 s on 4 slots
    assert wait.p50 < wait.p90 < 1.3 * wait.p50


def test_backlogged_tiers_share_by_weight() -> None:
    both = loads(studio=TierLoad(rung=800, seconds=2.0), free=TierLoad(rung=100, seconds=2.0))
    studio = predict(both, POOL, Newcomer("studio", 800)).p50
    free = predict(both, POOL, Newcomer("free", 100)).p50
    assert studio == pytest.approx(800 * 2 / 4 * 9 / 8, rel=0.05)
    assert free == pytest.approx(studio, rel=0.05)  # an eighth of the jobs at an eighth of the pace


def test_a_tier_gets_all_once_the_others_have_drained() -> None:
    both = loads(studio=TierLoad(rung=80, seconds=2.0), free=TierLoad(rung=100, seconds=2.0))
    assert predict(both, POOL, Newcomer("free", 100)).p50 == pytest.approx(180 * 2 / 4, rel=0.05)


def test_enterprise_comes_first_and_waits_for_nobody() -> None:
    flooded = loads(enterprise=TierLoad(rung=40, seconds=2.0), free=TierLoad(rung=500, seconds=2.0))
    assert predict(flooded, POOL, Newcomer("studio", 0)).p50 > 40 * 2 / 4
    assert predict(loads(free=TierLoad(rung=500, seconds=2.0)), POOL, Newcomer("enterprise", 0)).p50 < 1


def test_strict_order_lets_every_higher_tier_pass() -> None:
    strict = replace(POOL, classes=[(tier,) for tier in TIERS])
    waiting = loads(studio=TierLoad(rung=100, seconds=2.0))
    assert predict(waiting, strict, Newcomer("free", 0)).p50 > 45
    assert predict(waiting, POOL, Newcomer("free", 0)).p50 < 5


def test_what_still_arrives_in_higher_tiers_makes_a_lower_one_wait_longer() -> None:
    calm = loads(free=TierLoad(rung=50, seconds=2.0))
    lively = {**calm, "enterprise": TierLoad(running=2, seconds=2.0, inflow=2.0)}
    before, after = (predict(each, POOL, Newcomer("free", 50)) for each in (calm, lively))
    assert after.p50 == pytest.approx(2 * before.p50, rel=0.1)
    assert after.p90 - after.p50 > 2 * (before.p90 - before.p50)


def test_a_flood_of_enterprise_still_gives_a_finite_answer() -> None:
    flood = loads(enterprise=TierLoad(rung=10, running=4, seconds=2.0, inflow=9.0))
    assert predict(flood, POOL, Newcomer("free", 10)).p90 < 3_600


def test_users_take_turns() -> None:
    load = TierLoad(rung=10, unrung={5: 10, 1: 3})
    assert load.waiting == 63
    assert [load.ahead(turns, 1) for turns in (0, 1, 2, 9)] == [10, 23, 33, 63]
    assert [load.ahead(turns, 2) for turns in (1, 2)] == [33, 53]
    assert load.ahead(0, None) == 63


def test_a_users_own_jobs_come_one_after_the_other_even_on_an_empty_cluster() -> None:
    idle = {tier: TierLoad() for tier in TIERS} | {"free": TierLoad(running=1, unrung={2: 1})}
    wait = predict(idle, POOL, Newcomer("free", 2, turns=3, own_seconds=6.0))
    assert 12 < wait.p50 < 18


def test_the_queue_moves_on_while_a_picture_grows_old() -> None:
    waiting = loads(free=TierLoad(rung=100, seconds=2.0))
    fresh = predict(waiting, POOL, Newcomer("free", 100))
    old = predict(waiting, POOL, Newcomer("free", 100), age=10.0)
    assert fresh.p50 - old.p50 == pytest.approx(10, abs=0.5)


load_of_a_tier = st.builds(
    TierLoad,
    rung=st.integers(0, 10**5),
    running=st.integers(0, 50),
    seconds=st.floats(0.01, 600),
    inflow=st.floats(0, 10**4),
    unrung=st.dictionaries(st.integers(1, 64), st.integers(1, 1_000), max_size=4),
)


@given(
    st.fixed_dictionaries(dict.fromkeys(TIERS, load_of_a_tier)),
    st.sampled_from(TIERS),
    st.integers(0, 20),
    st.integers(1, 1_000),
    st.floats(0, 3),
)
def test_whatever_waits_the_answer_is_finite_and_longer_behind_more(
    picture: dict[str, TierLoad], tier: str, turns: int, slots: int, variation: float
) -> None:
    pool = replace(POOL, slots=slots, variation=variation)
    ahead = picture[tier].ahead(turns, 1)
    wait = predict(picture, pool, Newcomer(tier, ahead, turns))
    assert 0 < wait.p50 <= wait.p90 < 1e12
    longer = predict(picture, pool, Newcomer(tier, 2 * ahead + 10_000, turns))
    assert wait.p90 <= longer.p90 * (1 + 1e-9)
    assert joined(picture[tier]).waiting == picture[tier].waiting + 1
