"""What makes lost messages and lost workers harmless: rows nobody answered for are acted on again.

Every pass is bounded, idempotent and safe beside another pass.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Text, TextClause, bindparam, text
from sqlalchemy.exc import SQLAlchemyError

from pingvas import db, settings
from pingvas.billing import plans
from pingvas.errors import PingvasError
from pingvas.jobs import dispatch, lifecycle
from pingvas.jobs.dispatch import Bell
from pingvas.jobs.lifecycle import Claim, Outcome
from pingvas.jobs.models import Job

log = logging.getLogger(__name__)

BATCH = 200
ALL_PLACES = 1_000_000  # what no limit means to the query

_EXPIRED = text("""
    SELECT id FROM jobs WHERE status = 'in_progress' AND lease_expires_at < clock_timestamp()
    ORDER BY lease_expires_at LIMIT :batch""")

_OVERDUE = text("""
    SELECT id FROM jobs WHERE status = 'in_progress' AND deadline_at < clock_timestamp()
    ORDER BY deadline_at LIMIT :batch""")

# Users with a due job and a free place: those whose places are all taken are refilled as their jobs end.
_UNRUNG = text("""
    SELECT waiting.user_id FROM jobs AS waiting
    JOIN users ON users.id = waiting.user_id
    JOIN unnest(:tiers, :places) AS plan(tier, places) ON plan.tier = users.tier
    WHERE waiting.status = 'pending' AND waiting.rung_at IS NULL AND waiting.run_after <= clock_timestamp()
    AND waiting.tier NOT IN (SELECT tier FROM tier_states WHERE state = 'paused')
    GROUP BY waiting.user_id, plan.places
    HAVING plan.places > (
        SELECT count(*) FROM jobs AS taken WHERE taken.user_id = waiting.user_id
        AND (taken.status = 'in_progress' OR (taken.status = 'pending' AND taken.rung_at IS NOT NULL)))
    ORDER BY min(waiting.run_after) LIMIT :batch""").bindparams(
    bindparam("tiers", type_=ARRAY(Text)), bindparam("places", type_=ARRAY(Integer))
)

_RUNG = text("""
    SELECT count(*) FROM jobs WHERE status = 'pending' AND rung_at IS NOT NULL AND tier = :tier""")

_RING_AGAIN = text("""
    UPDATE jobs SET rung_at = clock_timestamp() WHERE id IN (
        SELECT id FROM jobs
        WHERE status = 'pending' AND tier = :tier AND rung_at < clock_timestamp() - :silence
        AND tier NOT IN (SELECT tier FROM tier_states WHERE state = 'paused')
        ORDER BY rung_at LIMIT :most FOR UPDATE SKIP LOCKED)
    RETURNING id, tier, model, priority, attempt""")

LONG_SILENCES = 10  # of those, a job is rung again whatever the queue's length says


@dataclass(frozen=True)
class Swept:
    """What one pass did, in jobs (leases, deadlines, bells) and users (refills)."""

    leases_returned: int
    taken_back: int
    users_refilled: int
    rung_again: int


def sweep() -> Swept:
    """Run one pass over expired leases, missed deadlines, free places and unanswered rows."""
    return Swept(return_leases(), take_back_overdue(), refill_users(), ring_again())


def return_leases() -> int:
    """Fail the attempt of every running job whose lease has run out, as a retryable failure."""
    return _each(_EXPIRED, _return_lease)


def take_back_overdue() -> int:
    """Fail the attempt of every running job past its deadline, whoever still renews its lease."""
    return _each(_OVERDUE, _take_back)


def _each(jobs: TextClause, act: Callable[[UUID], bool]) -> int:
    with db.transaction() as session:
        found = list(session.execute(jobs, {"batch": BATCH}).scalars())
    return sum(_apart(act, job_id) for job_id in found)


def _return_lease(job_id: UUID) -> bool:
    return _fail(job_id, lifecycle.lost, "the lease of %s ran out at attempt %s")


def _take_back(job_id: UUID) -> bool:
    return _fail(job_id, lifecycle.take_back, "%s missed the deadline at attempt %s")


def _fail(job_id: UUID, transition: Callable[[Claim], Outcome], what: str) -> bool:
    with db.transaction() as session:
        job = session.get(Job, job_id)
    if job is None or transition(lifecycle.held_by(job)) is Outcome.STALE:
        return False  # renewed, postponed or ended since it was listed
    log.warning(f"job %s: {what}", job_id, job.worker, job.attempt)
    return True


def refill_users() -> int:
    """Ring for waiting jobs whose user has a free place: retries whose back-off has passed, first of all."""
    limits = {tier: plans.limit(plan.max_concurrent_jobs) for tier, plan in plans.table().items()}
    places = [ALL_PLACES if most is None else most for most in limits.values()]
    values = {"tiers": [tier.value for tier in limits], "places": places, "batch": BATCH}
    with db.transaction() as session:
        users = list(session.execute(_UNRUNG, values).scalars())
    return sum(_apart(_refill, user_id) for user_id in users)


def _refill(user_id: UUID) -> bool:
    with db.transaction() as session:
        dispatch.refill(session, user_id)
    return True


def _apart(act: Callable[[UUID], bool], row_id: UUID) -> bool:
    """Act on one row; what is wrong with it must not keep the others waiting."""
    try:
        return act(row_id)
    except (SQLAlchemyError, PingvasError):
        log.exception("the sweep left out %s", row_id)
        return False


def ring_again() -> int:
    """Ring again for jobs that were rung long ago where a tier's queue holds too few messages.

    A long queue is no reason to ring twice; messages that vanished are. Messages of jobs that were
    cancelled make a queue look longer than it is, so a very long silence is a reason too.
    """
    try:
        depths = dispatch.depths()
    except dispatch.BrokerAway as error:
        log.warning("no bell can ring, the broker is away: %s", error)
        return 0
    return sum(_ring_tier_again(tier, depth) for tier, depth in depths.items())


def _ring_tier_again(tier: str, depth: int) -> int:
    silence = timedelta(seconds=settings.get().ring_again_seconds)
    with db.transaction() as session:
        missing = int(session.scalar(_RUNG, {"tier": tier}) or 0) - depth
        passes = [(silence, min(BATCH, max(0, missing))), (LONG_SILENCES * silence, BATCH)]
        bells = [
            Bell(*row)
            for seconds, most in passes
            for row in session.execute(_RING_AGAIN, {"tier": tier, "silence": seconds, "most": most})
        ]
    return len(bells) if dispatch.ring(*bells) else 0
