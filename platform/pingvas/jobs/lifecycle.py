"""The only writer of `jobs.status`. Every transition is a compare-and-set on (id, status, attempt).

    pending -> in_progress -> completed | failed | cancelled        retry: in_progress -> pending

A row is born pending, in the database function `accept_jobs` (migration 0004). Zero rows changed means
that somebody else won, which is an outcome and not an error. `attempt` fences: a worker that wakes up
after its lease was given away carries an old attempt and changes nothing.
Transactions that touch money lock the wallet before the job, always in this order.
Moments that hosts compare (leases, back-offs) are the database's: no two hosts' clocks agree.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from pingvas import clock, db, faults, settings, workers
from pingvas.billing import ledger
from pingvas.errors import AlreadyFinished, NotFound
from pingvas.gallery import pictures
from pingvas.gallery.pictures import Stored
from pingvas.jobs import deadlines, dispatch, events, tiers
from pingvas.jobs.attempts import LOST, POISON, Claim, Failure, Outcome, overdue
from pingvas.jobs.dead_letters import burial
from pingvas.jobs.dead_letters.classes import DEADLINE_EXCEEDED, WORKER_LOST
from pingvas.jobs.models import Job, Status
from pingvas.jobs.quote import cost

__all__ = ["Claim", "Failure", "Outcome"]

BACKOFF_SECONDS = (0, 30, 120)


def claim(job_id: UUID, worker: str) -> Claim | None:
    """Take a pending job under a lease; None when it is not there to take (a stale or doubled message).

    A job of a paused tier is not taken either: it forgets that it was rung, and waits for the tier to open.
    """
    # Who rang has seen that the job is due; only a stray message meets one that was not rung.
    due = or_(Job.rung_at.is_not(None), Job.run_after <= func.clock_timestamp())
    query = (
        update(Job)
        .where(Job.id == job_id, Job.status == Status.PENDING, due, Job.tier.not_in(tiers.paused()))
        .values(
            status=Status.IN_PROGRESS,
            attempt=Job.attempt + 1,
            worker=worker,
            started_at=clock.now(),
            alone=False,
            lease_expires_at=_from_now(settings.get().lease_seconds),
            deadline_at=deadlines.from_now(),
        )
        .returning(Job)
        .execution_options(populate_existing=True)
    )
    with db.transaction() as session:
        job = session.scalars(query).one_or_none()
        if job is None:
            tiers.put_aside(session, job_id)
            return None
        events.changed(session, job)
        faults.point("claiming")
        return held_by(job, suspect=burial.count(session, job.id, WORKER_LOST) > 0)


def held_by(job: Job, *, suspect: bool = False) -> Claim:
    """Return the claim that a running job's present attempt holds."""
    return Claim(
        job.id,
        job.user_id,
        job.attempt,
        job.failures,
        job.tier,
        job.model,
        job.prompt,
        job.parameters,
        job.credits_quoted,
        deadlines.seconds(job.tier, job.credits_quoted),
        suspect,
    )


def run_alone(held: Claim) -> Outcome:
    """Note that an attempt begins now, with no other beside it in its worker; STALE: it is not to begin.

    If its worker is lost now, it is this job that has cost it.
    """
    with db.transaction() as session:
        query = _mine(held).values(alone=True, deadline_at=deadlines.from_now())
        return _outcome(session.execute(query))


def postpone(held: Claim, seconds: float) -> Outcome:
    """Move an attempt's deadline to `seconds` from now: its pictures are drawn, and the store is away."""
    with db.transaction() as session:
        return _outcome(session.execute(_mine(held).values(deadline_at=_from_now(seconds))))


def renew(held: Claim) -> Outcome:
    """Renew a running job's lease: DONE, ASKED (to cancel it) or STALE (it is no longer the worker's)."""
    query = _mine(held).values(lease_expires_at=_from_now(settings.get().lease_seconds))
    with db.transaction() as session:
        row = session.execute(query.returning(Job.cancel_requested_at)).one_or_none()
    if row is None:
        return Outcome.STALE
    return Outcome.DONE if row[0] is None else Outcome.ASKED


def complete(held: Claim, stored: Sequence[Stored], gpu_seconds: float) -> Outcome:
    """End a job well: picture rows, capture and event in one transaction. STALE changes nothing."""
    with db.transaction() as session:
        ledger.lock(session, held.user_id)
        values = {"status": Status.COMPLETED, "completed_at": clock.now(), "gpu_seconds": gpu_seconds}
        job = _finish(session, held, values)
        if job is None:
            return Outcome.STALE
        pictures.record(session, job, stored)
        job.credits_consumed = ledger.settle(session, job.id, cost(gpu_seconds))
        db.after_commit(partial(faults.point, "settled"))
        events.changed(session, job)
        dispatch.refill(session, job.user_id)
        faults.point("settling")
    return Outcome.DONE


def lost(held: Claim) -> Outcome:
    """Fail an attempt whose lease has run out; STALE when it was renewed after all.

    A job that was lost while it ran alone has cost that worker, and is not given another one. One that ran
    beside others may be innocent: it is tried once more, alone (docs/decisions/0014).
    """
    with db.transaction() as session:
        ledger.lock(session, held.user_id)
        expired = _mine(held).where(Job.lease_expires_at < func.clock_timestamp())
        alone = session.scalar(expired.values(lease_expires_at=None).returning(Job.alone))
        if alone is None:
            return Outcome.STALE
        burial.record_attempt(session, held.job_id, held.attempt, WORKER_LOST, None)
        return _retry_or_end(session, held, POISON if alone else LOST)


def take_back(held: Claim) -> Outcome:
    """Fail an attempt whose deadline has passed, though its worker may live; STALE: it was postponed."""
    with db.transaction() as session:
        ledger.lock(session, held.user_id)
        late = _mine(held).where(Job.deadline_at < func.clock_timestamp())
        if _outcome(session.execute(late.values(deadline_at=None))) is Outcome.STALE:
            return Outcome.STALE
        return miss(held)


def miss(held: Claim, cause: BaseException | None = None) -> Outcome:
    """Fail an attempt that missed its deadline. Another one may, since a device may have hung or been busy.

    It is one rule whoever notices first, the worker at a step or the sweep.
    """
    with db.transaction() as session:
        ledger.lock(session, held.user_id)
        burial.record_attempt(session, held.job_id, held.attempt, DEADLINE_EXCEEDED, cause)
        misses = burial.count(session, held.job_id, DEADLINE_EXCEEDED)
        return _retry_or_end(session, held, overdue(misses < deadlines.MISSES, cause))


def fail(held: Claim, failure: Failure) -> Outcome:
    """Give a failed attempt back for a retry, or end the job when retrying is pointless or used up.

    Returns:
        RETRY, DONE (the job has ended and its whole hold is released) or STALE.
    """
    with db.transaction() as session:
        ledger.lock(session, held.user_id)
        burial.record_attempt(session, held.job_id, held.attempt, failure.code, failure.cause)
        return _retry_or_end(session, held, failure)


def _retry_or_end(session: Session, held: Claim, failure: Failure) -> Outcome:
    cancelled = session.scalar(select(Job.cancel_requested_at).where(Job.id == held.job_id))
    if cancelled or (failure.retryable and held.failures + 1 < settings.get().max_attempts):
        delay = BACKOFF_SECONDS[min(held.failures, len(BACKOFF_SECONDS) - 1)]
        return _return_to_queue(held, delay, failures=held.failures + 1)
    values = {
        "status": Status.FAILED,
        "completed_at": clock.now(),
        "error_code": failure.code,
        "error_detail": failure.detail,
        "error_retryable": failure.retryable,
        "failures": held.failures + 1,
    }
    job = _finish(session, held, values)
    if job is None:
        return Outcome.STALE
    job.credits_consumed = ledger.settle(session, job.id, 0)
    burial.bury(session, job, failure.code)
    events.changed(session, job)
    dispatch.refill(session, job.user_id)
    return Outcome.DONE


def hand_back(held: Claim) -> Outcome:
    """Return an unfinished job to its queue because its worker leaves: uncharged, and not a failure."""
    return _return_to_queue(held, 0, failures=held.failures)


def _return_to_queue(held: Claim, delay_seconds: float, failures: int) -> Outcome:
    with db.transaction() as session:
        ledger.lock(session, held.user_id)
        values = {
            "status": Status.PENDING,
            "worker": None,
            "lease_expires_at": None,
            "rung_at": None,
            "failures": failures,
            "run_after": _from_now(delay_seconds),
        }
        job = _finish(session, held, values)
        if job is None:
            return Outcome.STALE
        if job.cancel_requested_at is not None:
            _end_cancelled(session, job)
            return Outcome.DONE
        events.changed(session, job)
        dispatch.refill(session, held.user_id)
    return Outcome.RETRY


def cancel(user_id: UUID, job_id: UUID) -> Outcome:
    """Cancel a user's job: DONE when it was waiting, ASKED when its worker has to stop it first.

    Raises:
        NotFound: no such job of this user.
        AlreadyFinished: it has ended, or somebody ended it meanwhile.
    """
    with db.transaction() as session:
        ledger.lock(session, user_id)
        job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one_or_none()
        if job is None or job.user_id != user_id:
            raise NotFound
        if job.status == Status.CANCELLED:
            return Outcome.DONE
        if Status(job.status).final:
            raise AlreadyFinished(f"The job is {job.status}.")
        if job.status == Status.IN_PROGRESS:
            job.cancel_requested_at = job.cancel_requested_at or clock.now()
            if job.worker is not None:
                db.after_commit(partial(workers.wake, job.worker, job.id))
            return Outcome.ASKED
        _end_cancelled(session, job)
    return Outcome.DONE


def cancelled(held: Claim, gpu_seconds: float) -> Outcome:
    """End a running job whose worker has stopped it on request; the GPU seconds it used are charged.

    Were they free, submitting and cancelling in turn would be a way to have the GPU for nothing.
    """
    with db.transaction() as session:
        ledger.lock(session, held.user_id)
        job = _finish(session, held, {"lease_expires_at": None, "gpu_seconds": gpu_seconds})
        if job is None:
            return Outcome.STALE
        _end_cancelled(session, job, cost(gpu_seconds) if gpu_seconds else 0)
    return Outcome.DONE


def _end_cancelled(session: Session, job: Job, charge: int = 0) -> None:
    job.status, job.completed_at = Status.CANCELLED, clock.now()
    session.flush()
    job.credits_consumed = ledger.settle(session, job.id, charge)
    events.changed(session, job)
    dispatch.refill(session, job.user_id)


def _from_now(seconds: float) -> Any:
    return func.clock_timestamp() + timedelta(seconds=seconds)


def _outcome(changed: Any) -> Outcome:
    return Outcome.DONE if changed.rowcount else Outcome.STALE


def _mine(held: Claim) -> Any:
    running = Job.status == Status.IN_PROGRESS
    return update(Job).where(Job.id == held.job_id, running, Job.attempt == held.attempt)


def _finish(session: Session, held: Claim, values: dict[str, Any]) -> Job | None:
    """Compare-and-set a running job of this attempt; None when it is no longer the worker's."""
    query = _mine(held).values(**values).returning(Job).execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()
