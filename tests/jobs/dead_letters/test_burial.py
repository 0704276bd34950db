"""A job that fails for good leaves a dead letter with its history, in the transaction that fails it."""

from uuid import UUID

import pytest

from pingvas import db
from pingvas.jobs import finding, lifecycle, sweep
from pingvas.jobs.dead_letters import finding as dead_letters
from pingvas.jobs.lifecycle import Failure, Outcome
from pingvas.jobs.presenter import job_object
from tests.jobs.dead_letters.conftest import STORE, attempts, failed, letter, lose_worker
from tests.jobs.test_lifecycle import claimed, make_due, picture, row, spendable, submitted


def broken() -> Failure:
    try:
        raise RuntimeError("the secret inside")
    except RuntimeError as error:
        return Failure("GENERATION_FAILED", "Something unexpected happened.", True, error)


@pytest.mark.parametrize(
    ("failure", "class_"),
    [
        (STORE, "infrastructure"),
        (Failure("OUT_OF_MEMORY", "The GPU is full.", retryable=True), "resource"),
        (Failure("DEADLINE_EXCEEDED", "It took too long.", retryable=False), "resource"),
        (Failure("MODEL_UNAVAILABLE", "It does not load.", retryable=False), "ours"),
        (Failure("INVALID_PARAMETERS", "The model cannot do this.", retryable=False), None),
    ],
)
def test_what_is_not_the_customers_fault_is_kept(user_id: UUID, failure: Failure, class_: str | None) -> None:
    found = letter(failed(user_id, failure))
    assert (found and found.class_) == class_
    assert spendable(user_id) == 100


def test_operators_see_every_attempt_and_customers_none(user_id: UUID) -> None:
    job_id = failed(user_id, broken())
    history = attempts(job_id)
    assert [(one.number, one.worker, one.code) for one in history] == [
        (number, "worker-1", "GENERATION_FAILED") for number in (1, 2, 3)
    ]
    for one in history:
        assert "RuntimeError: the secret inside" in one.traceback
        assert one.started_at is not None
        assert one.started_at <= one.ended_at
    public = job_object(finding.one(user_id, job_id).job, [], base_url="")
    assert public["error"]["code"] == "GENERATION_FAILED"
    assert "secret" not in str(public)


def test_a_failure_that_is_rolled_back_leaves_no_letter(user_id: UUID) -> None:
    job_id = submitted(user_id)
    held = claimed(job_id)
    with db.transaction() as session:
        assert lifecycle.fail(held, Failure("GONE", "Gone.", retryable=False)) is Outcome.DONE
        session.rollback()
    assert (letter(job_id), attempts(job_id), row(job_id).status) == (None, [], "in_progress")


def test_a_job_that_fails_twice_over_has_one_letter(user_id: UUID) -> None:
    held = claimed(submitted(user_id))
    final = Failure("GONE", "Gone.", retryable=False)
    assert [lifecycle.fail(held, final) for _ in range(2)] == [Outcome.DONE, Outcome.STALE]
    assert len(attempts(held.job_id)) == 1


def test_a_job_that_kills_two_workers_gets_no_third(user_id: UUID) -> None:
    job_id = submitted(user_id)
    lose_worker(job_id, "worker-1")
    assert row(job_id).status == "pending"
    lose_worker(job_id, "worker-2")
    job = row(job_id)
    assert (job.status, job.error_code, job.attempt) == ("failed", "POISON_JOB", 2)
    assert lifecycle.claim(job_id, "worker-3") is None
    found = letter(job_id)
    assert found is not None
    assert (found.class_, found.replay_after) == ("poison", None)
    assert [one.worker for one in attempts(job_id)] == ["worker-1", "worker-2"]
    assert spendable(user_id) == 100


def test_workers_that_hand_a_job_back_do_not_make_it_poison(user_id: UUID) -> None:
    job_id = submitted(user_id)
    lose_worker(job_id, "worker-1")
    for _ in range(4):
        make_due(job_id)
        assert lifecycle.hand_back(claimed(job_id)) is Outcome.RETRY
    assert row(job_id).status == "pending"
    assert letter(job_id) is None


def test_who_is_lost_beside_others_is_not_poison(user_id: UUID) -> None:
    """Twice lost before it ran alone: nothing says that it was this job."""
    job_id = submitted(user_id)
    lose_worker(job_id, "worker-1")
    make_due(job_id)
    assert claimed(job_id, "worker-2").suspect  # and waits for others to end, when the worker is lost
    make_due(job_id)
    assert sweep.return_leases() == 1
    assert row(job_id).status == "pending"
    make_due(job_id)
    held = claimed(job_id, "worker-3")
    lifecycle.run_alone(held)
    assert lifecycle.complete(held, [picture()], 1.0) is Outcome.DONE


def test_an_attempt_that_moved_on_does_not_run_alone(user_id: UUID) -> None:
    held = claimed(submitted(user_id))
    assert not held.suspect
    assert lifecycle.hand_back(held) is Outcome.RETRY
    assert lifecycle.run_alone(held) is Outcome.STALE
    assert not row(held.job_id).alone


def test_a_job_that_was_to_be_cancelled_ends_so_and_leaves_no_letter(user_id: UUID) -> None:
    job_id = submitted(user_id)
    held = claimed(job_id)
    lifecycle.cancel(user_id, job_id)
    assert lifecycle.fail(held, Failure("GONE", "Gone.", retryable=False)) is Outcome.DONE
    assert (row(job_id).status, letter(job_id)) == ("cancelled", None)
    assert spendable(user_id) == 100


def test_jobs_that_were_lost_with_the_same_workers_are_named(user_id: UUID) -> None:
    job_id, innocent = submitted(user_id), submitted(user_id)
    lose_worker(innocent, "worker-1")
    lose_worker(job_id, "worker-1")
    lose_worker(job_id, "worker-2")
    assert dead_letters.history(job_id).neighbours == [(innocent, 1)]
    assert row(innocent).status == "pending"
