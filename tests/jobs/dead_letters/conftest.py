"""What tests of dead letters share: a customer, books that balance in the end, ways for a job to fail."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from pingvas import db
from pingvas.accounts.register import register
from pingvas.billing import reconcile
from pingvas.jobs import lifecycle, sweep
from pingvas.jobs.dead_letters.models import DeadLetter, JobAttempt
from pingvas.jobs.lifecycle import Failure
from tests.jobs.test_lifecycle import claimed, make_due, purge, submitted

STORE = Failure("STORE_UNAVAILABLE", "The object store is away.", retryable=True)


@pytest.fixture
def user_id(clean_db: None) -> UUID:
    return register("artist@example.com", "correct horse battery").id


@pytest.fixture(autouse=True)
def _books_balance_in_the_end() -> Iterator[None]:
    purge()
    yield
    with db.transaction() as session:
        assert reconcile.problems(session) == {}


def letter(job_id: UUID) -> DeadLetter | None:
    with db.transaction() as session:
        return session.get(DeadLetter, job_id)


def attempts(job_id: UUID) -> list[JobAttempt]:
    with db.transaction() as session:
        query = session.query(JobAttempt).where(JobAttempt.job_id == job_id)
        return query.order_by(JobAttempt.number).all()


def lose_worker(job_id: UUID, worker: str) -> None:
    """Let a worker claim the job, run it alone if it is suspect, and never be heard of again."""
    make_due(job_id)
    held = claimed(job_id, worker)
    if held.suspect:
        assert lifecycle.run_alone(held) is lifecycle.Outcome.DONE
    make_due(job_id)
    assert sweep.return_leases() == 1


def failed(user_id: UUID, failure: Failure = STORE) -> UUID:
    """Return a job whose attempts have all failed."""
    return fail_all(submitted(user_id), failure)


def fail_all(job_id: UUID, failure: Failure = STORE) -> UUID:
    while lifecycle.fail(claimed(job_id), failure) is lifecycle.Outcome.RETRY:
        make_due(job_id)
    return job_id
