"""Looking at a user's subscriptions."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from pingvas import clock
from pingvas.billing.plans import Tier
from pingvas.billing.subscriptions import decide
from pingvas.billing.subscriptions.decide import Phase
from pingvas.billing.subscriptions.models import Subscription


def latest(session: Session, user_id: UUID) -> Subscription | None:
    """Return a user's subscription that counts: one that is not over, else the last one."""
    query = select(Subscription).where(Subscription.user_id == user_id)
    rows = session.scalars(query.order_by(Subscription.created_at.desc(), Subscription.id.desc())).all()
    return max(rows, key=lambda row: row.phase != Phase.ENDED, default=None)  # of several, the first


def current(session: Session, user_id: UUID) -> Subscription | None:
    """Return a user's subscription unless it is over."""
    row = latest(session, user_id)
    return None if row is None or row.phase == Phase.ENDED else row


def doubled(session: Session) -> dict[UUID, list[str]]:
    """Return who pays for several subscriptions at once, each by the provider's id, the oldest first."""
    ids = aggregate_order_by(Subscription.provider_id, Subscription.created_at, Subscription.id)
    query = select(Subscription.user_id, func.array_agg(ids))
    rows = session.execute(
        query.where(Subscription.renews).group_by(Subscription.user_id).having(func.count() > 1)
    )
    return {user_id: list(found) for user_id, found in rows}


def following(row: Subscription) -> tuple[str, datetime] | None:
    """Return the plan that is to come, and when; None where nothing is to change."""
    if row.phase != Phase.RUNNING:
        return None
    if row.status == "cancelled" and row.ends_at is not None:
        return Tier.FREE, row.ends_at
    now = clock.now()
    in_force = decide.best(Tier(row.tier), Tier(row.best_tier), row.best_until, now)
    return (row.tier, row.best_until) if in_force != row.tier else None
