"""Waits that are told to a user whose own jobs run and wait in front."""

from uuid import UUID

import pytest

from pingvas import db
from pingvas.accounts.register import register
from pingvas.jobs import eta, finding, lifecycle, submit
from pingvas.jobs.models import Job
from pingvas.jobs.submit import Accepted, Order

pytestmark = pytest.mark.usefixtures("clean_db")

LONG = Order(prompt="a red circle", width=256, height=256, steps=100, num_images=4, seed=1)
SHORT = Order(prompt="a blue star", seed=1)


@pytest.fixture
def user_id() -> UUID:
    """Has one place on the broker."""
    eta.snapshots.current.forget()
    return register("customer@example.com", "correct horse battery").id


def order(user_id: UUID, wanted: Order) -> Accepted:
    return submit.submit(user_id, "free", wanted)


def expected(job: Accepted) -> float:
    with db.transaction() as session:
        return float(session.get_one(Job, job.job_id).run_seconds or 0)


def told(user_id: UUID, job: Accepted) -> float:
    place = finding.one(user_id, job.job_id).place
    assert place is not None
    assert place.wait is not None
    return place.wait.p50


def test_a_short_job_waits_for_the_long_one_before_it(user_id: UUID) -> None:
    long = order(user_id, LONG)
    short = order(user_id, SHORT)
    assert expected(long) > 10 * expected(short)
    assert short.wait_seconds >= expected(long)
    assert told(user_id, short) == pytest.approx(short.wait_seconds, rel=0.2)


def test_of_a_job_that_runs_half_is_over(user_id: UUID) -> None:
    long = order(user_id, LONG)
    assert lifecycle.claim(long.job_id, "worker-1") is not None
    short = order(user_id, SHORT)
    assert expected(long) / 2 <= short.wait_seconds < expected(long)
    assert told(user_id, short) == pytest.approx(short.wait_seconds, rel=0.2)


def test_a_batch_waits_for_its_own_earlier_jobs() -> None:
    user = register("pro@example.com", "correct horse battery")
    jobs = submit.submit_all(user.id, "pro", [SHORT] * 4)
    waits = [job.wait_seconds for job in jobs]
    assert waits == sorted(waits)
    assert waits[3] >= 3 * expected(jobs[0])
