"""What is read from real tables, and what is made of it for a job that waits."""

from typing import Any

import pytest
from sqlalchemy import text

from pingvas import db, workers
from pingvas.jobs import eta, presenter, tiers
from pingvas.jobs.eta import calibration, picture, snapshots
from pingvas.jobs.eta.picture import MARK_EVERY, Picture
from pingvas.jobs.models import Job
from pingvas.jobs.tiers import State
from pingvas.workers import Worker
from tests.jobs.eta import rows

pytestmark = pytest.mark.usefixtures("fresh")

TINY = eta.Work("tiny", 128, 128, 10)


def taken() -> Picture:
    snapshots.current.forget()
    return snapshots.current.get()


def worker(slots: int) -> None:
    tiers = frozenset({"enterprise", "studio", "pro", "starter", "free"})
    workers.announce(Worker("gpu-1", tiers, frozenset({"tiny"}), slots))
    workers.forget()


def test_loads_count_what_waits_on_the_broker_and_off_it() -> None:
    ada, bob = rows.user("ada"), rows.user("bob")
    rows.insert(ada, 2)
    rows.insert(ada, 3, rung=False)
    rows.insert(bob, 1, rung=False)
    rows.insert(bob, 1, status="in_progress", tier="pro")
    loads = taken().loads
    free = loads["free"]
    assert (free.rung, free.unrung, free.running) == (2, {1: 1, 3: 1}, 0)
    assert (loads["pro"].waiting, loads["pro"].running) == (0, 1)
    assert free.inflow == pytest.approx(6 * free.seconds / 60)


def test_service_times_come_from_what_jobs_took() -> None:
    ada = rows.user("ada")
    rows.insert(ada, 10, status="completed", attempt=1, ran=3.0, waited=0.25, eta_p50=0.02)
    read = taken()
    assert read.service.seconds(TINY) == pytest.approx(3.0, abs=0.01)
    assert read.service.seconds(eta.Work("tiny", 128, 128, 20)) == pytest.approx(6.0, abs=0.01)
    assert read.pickup.p50 == pytest.approx(0.25, abs=0.01)


def test_a_queue_is_as_slow_as_its_workers_are_few() -> None:
    ada, bob = rows.user("ada"), rows.user("bob")
    rows.insert(ada, 10, status="completed", attempt=1, ran=2.0)
    rows.insert(bob, 60)
    rows.insert(bob, 6, status="in_progress")
    waits = []
    for slots in (6, 3):
        worker(slots)
        taken()
        waits.append(eta.estimate("free", TINY).p50)
    assert waits[0] == pytest.approx(20, rel=0.1)
    assert waits[1] == pytest.approx(2 * waits[0], rel=0.1)


def test_own_jobs_ahead_take_turns() -> None:
    ada = rows.user("ada")
    rows.insert(ada, 10, status="completed", attempt=1, ran=2.0)
    worker(4)
    taken()
    alone = eta.estimate("free", TINY)
    assert alone.p90 < 1
    assert eta.estimate("free", TINY, own_ahead=3).p50 == pytest.approx(5, rel=0.2)
    assert eta.turn_seconds("free", TINY, alone) == pytest.approx(
        1, rel=0.2
    )  # the first is half done on average
    assert eta.estimate("studio", TINY, own_ahead=2) == alone  # it has three places


def test_jobs_of_this_process_count_before_the_next_picture() -> None:
    worker(1)
    taken()
    before = eta.of_tier("free")
    for _ in range(3):
        eta.joined("free")
    assert eta.of_tier("free").p50 > before.p50


def test_a_waiting_job_knows_its_place_and_others_do_not() -> None:
    ada, bob = rows.user("ada"), rows.user("bob")
    rows.insert(ada, 3)
    mine = rows.insert(bob, 2, rung=False)
    done = rows.insert(bob, status="completed", attempt=1)
    worker(1)
    taken()
    with db.transaction() as session:
        jobs = [session.get_one(Job, job_id) for job_id in mine + done]
        standing = eta.of_jobs(session, jobs)
    assert {job_id: place.position for job_id, place in standing.items()} == dict(
        zip(mine, (4, 5), strict=True)
    )
    first, second = (standing[job_id].wait for job_id in mine)
    assert first is not None
    assert second is not None
    assert first.p50 < second.p50


def test_what_waits_in_a_paused_tier_delays_nobody_and_has_no_wait_itself() -> None:
    ada, bob = rows.user("ada"), rows.user("bob")
    rows.insert(ada, 10, status="completed", attempt=1, ran=2.0)
    (mine,) = rows.insert(bob, 1, tier="enterprise")
    rows.insert(ada, 10, tier="enterprise")
    worker(1)
    taken()
    held_up = eta.estimate("free", TINY)
    tiers.change("enterprise", State.PAUSED, by="test")
    taken()
    assert eta.estimate("free", TINY).p50 < 1 < held_up.p50
    with db.transaction() as session:
        job = session.get_one(Job, mine)
        assert eta.of_jobs(session, [job]) == {mine: eta.Place(1, None)}
        assert presenter.job_object(job, [], base_url="", place=eta.Place(1, None))["eta_seconds"] is None
    assert eta.next_place_seconds(bob) == 60


@pytest.mark.parametrize("waiting", [MARK_EVERY - 1, MARK_EVERY, 3 * MARK_EVERY + 7])
def test_positions_are_counted_from_the_nearest_mark(waiting: int) -> None:
    ada, bob = rows.user("ada"), rows.user("bob")
    rows.insert(ada, waiting)
    rows.insert(ada, 5, tier="pro")
    (mine,) = rows.insert(bob)
    taken()
    with db.transaction() as session:
        assert eta.of_jobs(session, [session.get_one(Job, mine)])[mine].position == waiting + 1


def test_a_full_queue_has_room_when_its_first_job_starts() -> None:
    ada, bob = rows.user("ada"), rows.user("bob")
    rows.insert(ada, 10, status="completed", attempt=1, ran=3.0)
    rows.insert(ada, 4)
    rows.insert(ada, 1, status="in_progress")
    rows.insert(bob, 3)
    worker(1)
    taken()
    assert eta.next_place_seconds(bob) == pytest.approx(14, abs=3)
    assert eta.next_place_seconds(rows.user("eve")) == 1


def test_a_database_that_is_away_leaves_a_blank_picture() -> None:
    def read() -> Picture:
        with db.transaction() as session:
            session.execute(text("SELECT no_such_column"))
        raise AssertionError

    assert snapshots.Snapshots(read).get().loads == picture.blank().loads


def test_the_report_holds_predictions_against_what_came() -> None:
    ada = rows.user("ada")
    told: dict[str, Any] = {"status": "completed", "attempt": 1, "eta_p50": 2.0, "eta_p90": 5.0}
    for waited in (1.0, 1.5, 4.0, 8.0):
        rows.insert(ada, waited=waited, **told)
    rows.insert(ada, waited=99.0, **told | {"attempt": 2})
    rows.insert(ada, tier="enterprise", waited=1.0, **told)
    enterprise, free = calibration.report()
    assert (enterprise.tier, enterprise.jobs, enterprise.before_p50) == ("enterprise", 1, 1.0)
    assert (free.tier, free.jobs, free.before_p50, free.before_p90) == ("free", 4, 0.5, 0.75)
    assert free.median_ratio == pytest.approx(2.75 / 2, rel=0.01)
