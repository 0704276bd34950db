"""Cancelling: who wins a race, what is charged, and that the worker is woken for it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
import redis

from pingvas import db, ids
from pingvas.accounts.register import register
from pingvas.billing import reconcile
from pingvas.errors import AlreadyFinished
from pingvas.gallery.pictures import Stored
from pingvas.jobs import lifecycle, submit
from pingvas.jobs.lifecycle import Claim, Outcome
from pingvas.jobs.models import Job
from pingvas.jobs.presenter import job_object
from pingvas.jobs.submit import Order

pytestmark = pytest.mark.usefixtures("clean_db")

ORDER = Order(prompt="a red circle on a blue background", seed=1)
ROUNDS = 100


@pytest.fixture
def user_id() -> UUID:
    return register("artist@example.com", "correct horse battery", tier="studio").id


@pytest.fixture(autouse=True)
def _books_balance_in_the_end() -> Iterator[None]:
    yield
    with db.transaction() as session:
        assert reconcile.problems(session) == {}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def submitted(user_id: UUID) -> UUID:
    return submit.submit(user_id, "studio", ORDER).job_id


def claimed(job_id: UUID) -> Claim:
    held = lifecycle.claim(job_id, "gpu@somewhere:1")
    assert held is not None
    return held


def row(job_id: UUID) -> Job:
    with db.transaction() as session:
        return session.get_one(Job, job_id)


def complete(held: Claim) -> Outcome:
    return lifecycle.complete(held, [Stored(ids.new(), 128, 128, 1, 1_000, "0" * 64)], 0.5)


def test_completion_against_cancelling_ends_in_exactly_one(user_id: UUID, pool: ThreadPoolExecutor) -> None:
    """The worker completes the job while it hears that it was cancelled."""
    ends = []
    for number in range(ROUNDS):
        held = claimed(submitted(user_id))
        assert lifecycle.cancel(user_id, held.job_id) is Outcome.ASKED
        assert lifecycle.cancel(user_id, held.job_id) is Outcome.ASKED
        racers = [lambda held=held: complete(held), lambda held=held: lifecycle.cancelled(held, 0.5)]
        runs = [pool.submit(racer) for racer in (racers if number % 2 else reversed(racers))]
        outcomes = [run.result() for run in (runs if number % 2 else reversed(runs))]
        assert sorted(outcomes) == [Outcome.DONE, Outcome.STALE]
        ends.append("completed" if outcomes[0] is Outcome.DONE else "cancelled")
        job = row(held.job_id)
        assert (job.status, job.credits_consumed) == (ends[-1], 1)
    assert set(ends) == {"completed", "cancelled"}, "the race was none"


def test_who_asks_too_late_hears_that_it_has_finished(user_id: UUID, pool: ThreadPoolExecutor) -> None:
    """The customer asks while the worker completes, which wins: it was not told in time."""
    for _ in range(ROUNDS // 4):
        held = claimed(submitted(user_id))
        asking = pool.submit(lifecycle.cancel, user_id, held.job_id)
        completing = pool.submit(complete, held)
        assert completing.result() is Outcome.DONE
        refused = asking.exception()
        assert isinstance(refused, AlreadyFinished) or asking.result() is Outcome.ASKED
        assert row(held.job_id).status == "completed"


def test_a_waiting_job_is_either_started_or_cancelled(user_id: UUID, pool: ThreadPoolExecutor) -> None:
    for _ in range(ROUNDS // 4):
        job_id = submitted(user_id)
        asking = pool.submit(lifecycle.cancel, user_id, job_id)
        starting = pool.submit(lifecycle.claim, job_id, "gpu@somewhere:1")
        held = starting.result()
        assert (asking.result() is Outcome.DONE) is (held is None)
        if held is not None:
            assert lifecycle.cancelled(held, 0.0) is Outcome.DONE
        assert (row(job_id).status, row(job_id).credits_consumed) == ("cancelled", 0)


def test_the_worker_of_a_running_job_is_woken(user_id: UUID, broker: str) -> None:
    held = claimed(submitted(user_id))
    with redis.Redis.from_url(broker, decode_responses=True) as client, client.pubsub() as ear:
        ear.psubscribe("pingvas:worker:*")
        assert ear.get_message(timeout=5)
        assert lifecycle.cancel(user_id, held.job_id) is Outcome.ASKED
        message = ear.get_message(timeout=5)
    assert message is not None
    assert "gpu@somewhere:1" in message["channel"]
    assert message["data"] == str(held.job_id)


def test_the_answer_says_what_was_used_and_why_it_ended(user_id: UUID) -> None:
    waiting, running = submitted(user_id), claimed(submitted(user_id))
    lifecycle.cancel(user_id, waiting)
    lifecycle.cancel(user_id, running.job_id)
    lifecycle.cancelled(running, 2.4)
    first = job_object(row(waiting), [], base_url="")
    assert (first["credits_consumed"], first["gpu_seconds"]) == (0, None)
    assert first["reason"] == "Cancelled on request. Nothing is charged."
    second = job_object(row(running.job_id), [], base_url="")
    assert (second["credits_consumed"], second["gpu_seconds"], second["error"]) == (3, 2.4, None)
    assert second["reason"] == ("Cancelled on request while it ran. The 2.4 GPU seconds it used are charged.")
