"""A machine does to jobs, in any order, all that customers, workers, sweeps and operators can do to them, and
compares rows, holds, wallets and ledger with a small model after every step."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from pingvas import clock, db
from pingvas import settings as configuration
from pingvas.billing import plans, reconcile
from pingvas.billing.plans import Plan
from pingvas.errors import AlreadyFinished, InsufficientCredits, QueueFull
from pingvas.jobs import dispatch, lifecycle, quote, submit, sweep
from pingvas.jobs.dead_letters import replay
from pingvas.jobs.lifecycle import Claim, Failure, Outcome
from pingvas.jobs.models import Job as JobRow
from pingvas.jobs.submit import Order
from tests.jobs.customers import customer
from tests.jobs.model.ledger_model import LEGAL, OPEN, Job, Wallet
from tests.jobs.test_lifecycle import picture

TRANSIENT = Failure("STORE_UNAVAILABLE", "The object store is away.", retryable=True)
OURS = Failure("GENERATION_FAILED", "Something broke.", retryable=False)
CUSTOMERS = Failure("INVALID_PARAMETERS", "The model cannot do that.", retryable=False)
PURCHASED = 60
MOST_OPEN = 5
LONG_AGO = timedelta(minutes=10)

_ROWS = text("""
    SELECT jobs.id, status, attempt, failures, credits_consumed, settled_at IS NULL AS open, captured,
           (SELECT count(*) FROM ledger_transactions AS charge
            WHERE charge.job_id = jobs.id AND charge.type = 'generation') AS charges
    FROM jobs JOIN holds ON holds.job_id = jobs.id WHERE jobs.user_id = ANY(:users)""")
_WALLETS = text("SELECT user_id, monthly, purchased, held FROM wallets WHERE user_id = ANY(:users)")
_OWED = text("""
    SELECT user_id, -sum(amount) FROM ledger_entries WHERE account = 'receivable' AND user_id = ANY(:users)
    GROUP BY user_id""")
_UNEVEN = text("""
    SELECT e.transaction_id FROM ledger_entries e JOIN ledger_transactions t ON t.id = e.transaction_id
    WHERE t.user_id = ANY(:users) GROUP BY e.transaction_id HAVING sum(e.amount) <> 0""")
_LEASE_IS_OVER = text("UPDATE jobs SET lease_expires_at = :past WHERE id = :id AND status = 'in_progress'")
_TIME_PASSES = text("UPDATE jobs SET run_after = :past WHERE user_id = ANY(:users) AND status = 'pending'")

# The last few only, ended ones among them: what is odd needs several things to happen to one job.
JOBS = st.runner().flatmap(lambda machine: st.sampled_from(machine.jobs[-3:]))
CLAIMS = st.runner().flatmap(lambda machine: st.sampled_from(machine.held[-4:]))
SECONDS = st.sampled_from([0.0, 0.4, 7.0, 900.0])


class Machine(RuleBasedStateMachine):
    """Customers of three plans, one of them metered, and everything that may happen to their jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.tiers = {customer(tier, PURCHASED): tier for tier in ("free", "studio", "enterprise")}
        self.users = list(self.tiers)
        self.wallets = {who: _wallet(plans.of(tier)) for who, tier in self.tiers.items()}
        self.jobs: list[Job] = []
        self.held: list[tuple[Job, Claim]] = []  # in this order claimed, stale ones too
        self.seen: dict[UUID, str] = {}

    # What customers do.

    @precondition(lambda self: sum(job.status in OPEN for job in self.jobs) < MOST_OPEN)
    @rule(who=st.integers(0, 2), images=st.sampled_from([1, 2, 4]))
    def submits(self, who: int, images: int) -> None:
        user_id = self.users[who]
        order = Order("a red circle", width=256, height=256, steps=150, num_images=images, seed=1)
        credits = submit.price(order, "enterprise")[2].credits
        self._order(user_id, credits, lambda: submit.submit(user_id, self.tiers[user_id], order).job_id)

    @precondition(lambda self: self.jobs)
    @rule(job=JOBS)
    def cancels(self, job: Job) -> None:
        if job.status in ("completed", "failed"):
            with pytest.raises(AlreadyFinished):
                lifecycle.cancel(job.user_id, job.id)
            return
        running = job.status == "in_progress"
        assert lifecycle.cancel(job.user_id, job.id) is (Outcome.ASKED if running else Outcome.DONE)
        job.cancel_asked = running
        if job.status == "pending":
            job.end("cancelled")

    # What workers do, those included that do not know that their job was given away.

    @precondition(lambda self: self.jobs)
    @rule(job=JOBS, messages=st.integers(1, 3))
    def claims(self, job: Job, messages: int) -> None:
        """Answer a message that may have come more than once."""
        with ThreadPoolExecutor(messages) as pool:
            found = list(pool.map(lambda n: lifecycle.claim(job.id, f"worker-{n}"), range(messages)))
        held = [claim for claim in found if claim is not None]
        if job.status != "pending" or not job.due:
            assert held == []
            return
        assert [claim.attempt for claim in held] == [job.attempt + 1]
        job.status, job.attempt, job.alone = "in_progress", job.attempt + 1, False
        self.held.append((job, held[0]))

    @precondition(lambda self: self.held)
    @rule(claim=CLAIMS)
    def runs_alone(self, claim: tuple[Job, Claim]) -> None:
        job, held = claim
        assert held.suspect == (job.losses > 0) or not _current(job, held)
        assert lifecycle.run_alone(held) is (Outcome.DONE if _current(job, held) else Outcome.STALE)
        if _current(job, held):
            job.alone = True

    @precondition(lambda self: self.held)
    @rule(claim=CLAIMS)
    def renews(self, claim: tuple[Job, Claim]) -> None:
        job, held = claim
        wanted = Outcome.ASKED if job.cancel_asked else Outcome.DONE
        assert lifecycle.renew(held) is (wanted if _current(job, held) else Outcome.STALE)

    @precondition(lambda self: self.held)
    @rule(claim=CLAIMS, seconds=SECONDS)
    def completes(self, claim: tuple[Job, Claim], seconds: float) -> None:
        job, held = claim
        outcome = lifecycle.complete(held, [picture()], seconds)
        assert outcome is (Outcome.DONE if _current(job, held) else Outcome.STALE)
        if _current(job, held):
            job.end("completed", quote.cost(seconds))

    @precondition(lambda self: self.held)
    @rule(claim=CLAIMS, failure=st.sampled_from([TRANSIENT, TRANSIENT, OURS, CUSTOMERS]))
    def fails(self, claim: tuple[Job, Claim], failure: Failure) -> None:
        job, held = claim
        current = _current(job, held)
        outcome = lifecycle.fail(held, failure)
        if current:
            _fail(job, failure.retryable, letter=failure is not CUSTOMERS)
        assert outcome is _outcome(job, current)

    @precondition(lambda self: self.held)
    @rule(claim=CLAIMS)
    def hands_back(self, claim: tuple[Job, Claim]) -> None:
        job, held = claim
        current = _current(job, held)
        outcome = lifecycle.hand_back(held)
        if current:
            job.give_back(0)
        assert outcome is _outcome(job, current)

    @precondition(lambda self: self.held)
    @rule(claim=CLAIMS, seconds=SECONDS)
    def stops_a_cancelled_job(self, claim: tuple[Job, Claim], seconds: float) -> None:
        job, held = claim
        if _current(job, held) and not job.cancel_asked:
            return  # no worker does that
        outcome = lifecycle.cancelled(held, seconds)
        assert outcome is (Outcome.DONE if _current(job, held) else Outcome.STALE)
        if _current(job, held):
            job.end("cancelled", quote.cost(seconds) if seconds else 0)

    # What time, sweeps and operators do.

    @precondition(lambda self: self.jobs)
    @rule(job=JOBS)
    def loses_its_worker(self, job: Job) -> None:
        lost = self._lease_is_over(job)
        assert sweep.return_leases() == lost
        if lost:
            _lose(job)

    @precondition(lambda self: self.held)
    @rule(claim=CLAIMS)
    def completes_while_it_is_swept(self, claim: tuple[Job, Claim]) -> None:
        """A worker comes back at the very moment: either it or the sweep has the job."""
        job, held = claim
        current = _current(job, held)
        lost = self._lease_is_over(job)
        with ThreadPoolExecutor(2) as pool:
            finish, swept = (
                pool.submit(lifecycle.complete, held, [picture()], 3.0),
                pool.submit(sweep.return_leases),
            )
        completed = finish.result() is Outcome.DONE
        assert (completed, swept.result()) in ({(True, 0), (False, 1)} if current else {(False, lost)})
        if completed:
            job.end("completed", 3)
        elif lost:
            _lose(job)

    @rule()
    def time_passes(self) -> None:
        with db.transaction() as session:
            session.execute(_TIME_PASSES, {"past": _past(), "users": self.users})
        for job in self.jobs:
            job.due = True
        sweep.refill_users()

    @precondition(lambda self: self.jobs)
    @rule(job=JOBS)
    def replays(self, job: Job) -> None:
        if not job.dead:
            assert replay.replay(job.id, "an operator") is None
            return
        again = self._order(job.user_id, job.quote, lambda: replay.replay(job.id, "an operator"))
        if again is not None:
            job.dead, again.losses = False, job.losses

    # What must be so after each of these.

    @invariant()
    def database_is_as_the_model_says(self) -> None:
        with db.transaction() as session:
            rows = {row.id: row for row in session.execute(_ROWS, {"users": self.users})}
            found = {row[0]: tuple(row[1:]) for row in session.execute(_WALLETS, {"users": self.users})}
            owed = {row[0]: int(row[1]) for row in session.execute(_OWED, {"users": self.users})}
            assert session.execute(_UNEVEN, {"users": self.users}).all() == []
        assert found == {who: (own.monthly, own.purchased, own.held) for who, own in self.wallets.items()}
        assert owed == {who: own.owed for who, own in self.wallets.items() if own.owed}
        assert set(rows) == {job.id for job in self.jobs}
        for job in self.jobs:
            _compare(job, rows[job.id])
            before = self.seen.setdefault(job.id, "pending")
            assert job.status == before or (before, job.status) in LEGAL
            self.seen[job.id] = job.status

    def teardown(self) -> None:
        for job in self.jobs:
            if job.status == "in_progress":
                with db.transaction() as session:
                    held = lifecycle.held_by(session.get_one(JobRow, job.id))
                lifecycle.complete(held, [picture()], 1.0)
            elif job.status == "pending":
                lifecycle.cancel(job.user_id, job.id)
        with db.transaction() as session:
            assert reconcile.problems(session) == {}

    # How the model looks ahead.

    def _refusal(self, user_id: UUID, credits: int) -> type[Exception] | None:
        wallet, plan = self.wallets[user_id], plans.of(self.tiers[user_id])
        if not wallet.metered and credits > wallet.monthly + wallet.purchased:
            return InsufficientCredits
        waiting = sum(job.user_id == user_id and job.status == "pending" for job in self.jobs)
        room = plans.limit(plan.max_queue_size)
        return QueueFull if room is not None and waiting >= room else None

    def _order(self, user_id: UUID, credits: int, order: Callable[[], UUID | None]) -> Job | None:
        """Order, or see that it is refused; what is ordered is held in the model too."""
        refusal = self._refusal(user_id, credits)
        if refusal is not None:
            with pytest.raises(refusal):
                order()
            return None
        job_id = order()
        assert job_id is not None
        self.jobs.append(Job(job_id, user_id, self.wallets[user_id], credits))
        return self.jobs[-1]

    def _lease_is_over(self, job: Job) -> bool:
        with db.transaction() as session:
            session.execute(_LEASE_IS_OVER, {"past": _past(), "id": job.id})
        return job.status == "in_progress"


def _wallet(plan: Plan) -> Wallet:
    return Wallet(plan.monthly_credits, PURCHASED, plan.unlimited)


def _current(job: Job, held: Claim) -> bool:
    return job.status == "in_progress" and job.attempt == held.attempt


def _outcome(job: Job, current: bool) -> Outcome:
    if not current:
        return Outcome.STALE
    return Outcome.RETRY if job.status == "pending" else Outcome.DONE


def _fail(job: Job, retryable: bool, *, letter: bool = True) -> None:
    most = configuration.get().max_attempts
    job.fail(retryable=retryable, letter=letter, most_attempts=most, delays=lifecycle.BACKOFF_SECONDS)


def _lose(job: Job) -> None:
    job.losses += 1
    _fail(job, not job.alone)


def _compare(job: Job, row: Any) -> None:
    told = (row.status, row.attempt, row.failures, row.credits_consumed, row.captured)
    assert told == (job.status, job.attempt, job.failures, job.charge, job.charge)
    assert row.open == (job.status in OPEN)
    assert row.charges == (1 if job.charge else 0)


def _past() -> datetime:
    return clock.now() - LONG_AGO


@pytest.mark.usefixtures("clean_db")
def test_jobs_and_books_are_as_the_model_says_whatever_happens() -> None:
    number = random.SystemRandom().randrange(10**6)
    print(f"seed {number}")  # pytest shows it with a failure
    chosen = settings(
        max_examples=25,
        stateful_step_count=50,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(hypothesis.seed(number)(Machine), settings=chosen)
    dispatch.flush()
