"""What makes lost messages and lost workers harmless: rows nobody answered for are acted on again.

Every pass is bounded, idempotent and safe beside another pass.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from pingvas import clock, db, settings
from pingvas.jobs import dispatch, lifecycle
from pingvas.jobs.dispatch import Bell
from pingvas.jobs.lifecycle import Failure, Outcome
from pingvas.jobs.models import Job

log = logging.getLogger(__name__)

BATCH = 200
WORKER_LOST = Failure("WORKER_LOST", "The worker that ran this job was lost.", retryable=True)

_EXPIRED = text("""
    SELECT id FROM jobs WHERE status = 'in_progress' AND lease_expires_at < :now
    ORDER BY lease_expires_at LIMIT :batch""")

_UNRUNG = text("""
    SELECT DISTINCT user_id FROM jobs
    WHERE status = 'pending' AND rung_at IS NULL AND run_after <= :now LIMIT :batch""")

_RUNG = text("""
    SELECT count(*) FROM jobs WHERE status = 'pending' AND rung_at IS NOT NULL AND tier = :tier""")

_RING_AGAIN = text("""
    UPDATE jobs SET rung_at = :now WHERE id IN (
        SELECT id FROM jobs WHERE status = 'pending' AND rung_at < :before AND tier = :tier
        ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED)
    RETURNING id, tier, model, priority, attempt""")


@dataclass(frozen=True)
class Swept:
    """What one pass did, in jobs (leases, bells) and users (refills)."""

    leases_returned: int
    users_refilled: int
    rung_again: int


def sweep() -> Swept:
    """Run one pass over expired leases, free places and unanswered rows."""
    return Swept(return_leases(), refill_users(), ring_again())


def return_leases() -> int:
    """Fail the attempt of every running job whose lease has run out, as a retryable failure."""
    with db.transaction() as session:
        lost = list(session.execute(_EXPIRED, {"now": clock.now(), "batch": BATCH}).scalars())
    return sum(_return_lease(job_id) for job_id in lost)


def _return_lease(job_id: object) -> bool:
    with db.transaction() as session:
        job = session.get(Job, job_id)
        if job is None or job.lease_expires_at is None or job.lease_expires_at >= clock.now():
            return False  # renewed or ended since it was listed
        held = lifecycle.held_by(job)
    log.warning("job %s: lease of %s ran out at attempt %s", job_id, job.worker, job.attempt)
    return lifecycle.fail(held, WORKER_LOST) is not Outcome.STALE


def refill_users() -> int:
    """Ring for waiting jobs whose user has a free place: retries whose back-off has passed, first of all."""
    with db.transaction() as session:
        users = list(session.execute(_UNRUNG, {"now": clock.now(), "batch": BATCH}).scalars())
    for user_id in users:
        with db.transaction() as session:
            dispatch.refill(session, user_id)
    return len(users)


def ring_again() -> int:
    """Ring again for jobs that were rung long ago, where a tier's queue holds too few messages.

    A long queue is no reason to ring twice; messages that vanished are.
    """
    try:
        depths = dispatch.depths()
    except dispatch.BrokerAway as error:
        log.warning("no bell can ring, the broker is away: %s", error)
        return 0
    return sum(_ring_tier_again(tier, depth) for tier, depth in depths.items())


def _ring_tier_again(tier: str, depth: int) -> int:
    now = clock.now()
    before = now - timedelta(seconds=settings.get().ring_again_seconds)
    with db.transaction() as session:
        if depth >= (session.scalar(_RUNG, {"tier": tier}) or 0):
            return 0
        values = {"now": now, "before": before, "tier": tier, "batch": BATCH}
        bells = [Bell(*row) for row in session.execute(_RING_AGAIN, values)]
    return sum(dispatch.ring(bell) for bell in bells)
