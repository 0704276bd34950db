"""What is made to crash: how it is prepared, and the call that is made, and made again after the crash."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from flask.testing import FlaskClient
from sqlalchemy import text

from pingvas import clock, db
from pingvas.accounts import tokens
from pingvas.accounts.models import User
from pingvas.billing import ledger
from pingvas.jobs import lifecycle, submit, sweep
from pingvas.jobs.dead_letters import replay
from pingvas.jobs.lifecycle import Claim, Failure
from pingvas.jobs.submit import Order
from tests.jobs.customers import customer
from tests.jobs.test_lifecycle import picture

TIER = "starter"
TRANSIENT = Failure("STORE_UNAVAILABLE", "The object store is away.", retryable=True)
FINAL = Failure("GENERATION_FAILED", "Something broke.", retryable=False)

Act = Callable[[], object]

_PAST = text("""
    UPDATE jobs SET run_after = :past,
    lease_expires_at = CASE WHEN status = 'in_progress' THEN CAST(:past AS timestamptz) END
    WHERE user_id = :user AND status IN ('pending', 'in_progress')""")
_UNRING = text("UPDATE jobs SET rung_at = NULL WHERE user_id = :user AND status = 'pending'")
_REPLAY_NOW = text("UPDATE dead_letters SET replay_after = clock_timestamp() WHERE replay_after IS NOT NULL")


@dataclass
class Customer:
    """Whose jobs these are."""

    id: UUID
    http: FlaskClient

    def job(self) -> UUID:
        """Accept a job."""
        return submit.submit(self.id, TIER, Order("a red circle", seed=1)).job_id

    def claim(self) -> Claim:
        """Accept a job and let a worker claim it."""
        held = lifecycle.claim(self.job(), "worker-1")
        assert held is not None
        return held

    def failed(self, failure: Failure) -> UUID:
        """Accept a job and let it fail for good."""
        held = self.claim()
        while lifecycle.fail(held, failure) is lifecycle.Outcome.RETRY:
            let_time_pass(self.id)
            again = lifecycle.claim(held.job_id, "worker-1")
            assert again is not None
            held = again
        return held.job_id


def new_customer(http: FlaskClient) -> Customer:
    """Return a customer who can pay for a few jobs."""
    return Customer(customer(TIER, purchased=50), http)


def submits(who: Customer) -> Act:
    """A request over HTTP, under one Idempotency-Key: sign-in, stored answer and job."""
    with db.transaction() as session:
        token = tokens.sign_in(session, session.get_one(User, who.id)).access_token
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "an order"}
    return lambda: who.http.post("/api/v1/generate", json={"prompt": "a red circle"}, headers=headers)


def claims(who: Customer) -> Act:
    job_id = who.job()
    return lambda: lifecycle.claim(job_id, "worker-1")


def renews(who: Customer) -> Act:
    held = who.claim()
    return lambda: lifecycle.renew(held)


def completes(who: Customer) -> Act:
    held, _ = who.claim(), who.job()
    return lambda: lifecycle.complete(held, [picture()], 2.5)


def fails_and_waits(who: Customer) -> Act:
    held = who.claim()
    return lambda: lifecycle.fail(held, TRANSIENT)


def fails_for_good(who: Customer) -> Act:
    held, _ = who.claim(), who.job()
    return lambda: lifecycle.fail(held, FINAL)


def hands_back(who: Customer) -> Act:
    held = who.claim()
    return lambda: lifecycle.hand_back(held)


def cancels_a_waiting_job(who: Customer) -> Act:
    job_id = who.job()
    return lambda: lifecycle.cancel(who.id, job_id)


def cancels_a_running_job(who: Customer) -> Act:
    held = who.claim()
    return lambda: lifecycle.cancel(who.id, held.job_id)


def stops_a_cancelled_job(who: Customer) -> Act:
    held = who.claim()
    lifecycle.cancel(who.id, held.job_id)
    return lambda: lifecycle.cancelled(held, 1.5)


def sweeps(who: Customer) -> Act:
    """Two jobs whose workers are gone, and one that lost its place on the broker."""
    with db.transaction() as session:  # with places for all
        session.get_one(User, who.id).tier = "studio"
    who.claim(), who.claim(), who.job()
    let_time_pass(who.id)
    with db.transaction() as session:
        session.execute(_UNRING, {"user": who.id})
    return sweep.sweep


def quarantines(who: Customer) -> Act:
    """A job that loses its worker while it runs alone."""
    lifecycle.run_alone(who.claim())
    let_time_pass(who.id)
    return sweep.return_leases


def replays(who: Customer) -> Act:
    job_id = who.failed(FINAL)
    return lambda: replay.replay(job_id, "an operator")


def replays_by_beat(who: Customer) -> Act:
    who.failed(TRANSIENT), who.failed(TRANSIENT)
    with db.transaction() as session:
        session.execute(_REPLAY_NOW)
    return replay.replay_due


def drops(who: Customer) -> Act:
    job_id = who.failed(FINAL)
    return lambda: replay.drop(job_id, "an operator")


def grants(who: Customer) -> Act:
    return lambda: ledger.grant(who.id, 30, business_key=f"order:{who.id}")


WHOLE: list[Callable[[Customer], Act]] = [
    submits, claims, renews, completes, fails_and_waits, fails_for_good, hands_back, cancels_a_waiting_job,
    cancels_a_running_job, stops_a_cancelled_job, quarantines, replays, drops, grants,
]  # fmt: skip
"""Each of these is one transaction: all of it is there or nothing."""


def finish(users: list[UUID]) -> None:
    """Let time pass and workers work until every job of these users has ended."""
    for _ in range(8):
        for user_id in users:
            let_time_pass(user_id)
        while sweep.return_leases():
            pass
        for job_id in (left := _open_jobs(users)):
            held = lifecycle.claim(job_id, "worker-3")
            if held is None:
                sweep.refill_users()
            else:
                lifecycle.complete(held, [picture()], 1.0)
        if not left:
            return
    raise AssertionError(f"these never end: {left}")


def _open_jobs(users: list[UUID]) -> list[Any]:
    query = "SELECT id FROM jobs WHERE user_id = ANY(:users) AND status IN ('pending', 'in_progress')"
    with db.transaction() as session:
        return list(session.scalars(text(query), {"users": users}))


def let_time_pass(user_id: UUID) -> None:
    """Let all back-offs and leases of a user's jobs be over."""
    with db.transaction() as session:
        session.execute(_PAST, {"past": clock.now() - timedelta(seconds=1), "user": user_id})
