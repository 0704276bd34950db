"""Whose jobs are on the broker: each user's places, and who gets one that became free."""

from functools import partial
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from pingvas import db
from pingvas.billing import ledger, plans
from pingvas.jobs.dispatch.bell import Bell
from pingvas.jobs.dispatch.broker import ring

_RELEASE = text("""
    UPDATE jobs SET rung_at = clock_timestamp() WHERE id IN (
        SELECT id FROM jobs
        WHERE user_id = :user AND status = 'pending' AND rung_at IS NULL AND run_after <= clock_timestamp()
        AND tier NOT IN (SELECT tier FROM tier_states WHERE state = 'paused')
        ORDER BY attempt DESC, priority DESC, id  -- retries, then interactive, then batch
        LIMIT CASE WHEN CAST(:places AS bigint) IS NOT NULL THEN greatest(0, :places - (
            SELECT count(*) FROM jobs WHERE user_id = :user
            AND (status = 'in_progress' OR (status = 'pending' AND rung_at IS NOT NULL)))) END)
    RETURNING id, tier, model, priority, attempt""")


def refill(session: Session, user_id: UUID) -> None:
    """Give a user's free places on the broker to the jobs that wait longest; they ring after the commit."""
    ledger.lock(session, user_id)  # two refills of one user must not give the same place twice
    tier = session.scalar(text("SELECT tier FROM users WHERE id = :user"), {"user": user_id})
    places = plans.limit(plans.of(str(tier)).max_concurrent_jobs)
    for row in session.execute(_RELEASE, {"user": user_id, "places": places}):
        db.after_commit(partial(ring, Bell(*row)))
