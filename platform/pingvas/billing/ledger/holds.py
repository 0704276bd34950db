"""The end of a hold, which `accept_jobs` made: it is released, and what the job used is captured."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from pingvas import clock
from pingvas.billing.ledger.posting import Account, Type, draw, lock, post
from pingvas.billing.models import Hold
from pingvas.errors import NotFound


def settle(session: Session, job_id: UUID, cost: int) -> int:
    """Close a job's hold: release all of it, then capture `cost` credits, never above the quote.

    Both happen in the caller's unit of work, so no other spender can come between them. Returns what
    was captured; a hold that is settled already is left alone and its captured amount returned.

    Raises:
        NotFound: the job has no hold.
    """
    owner = session.scalar(select(Hold.user_id).where(Hold.job_id == job_id))
    if owner is None:
        raise NotFound(f"Job {job_id} has no hold.")
    lock(session, owner)
    held = session.scalars(select(Hold).where(Hold.job_id == job_id).with_for_update()).one()
    if held.settled_at is not None:
        return held.captured or 0
    cost = max(0, min(cost, held.quote))
    if held.monthly + held.purchased:
        _release(session, held)
    if cost:
        _capture(session, held, cost)
    if held.lapsed and held.monthly > cost:
        _expire(session, held, held.monthly - cost)
    held.captured, held.settled_at = cost, clock.now()
    session.flush()
    return cost


def _release(session: Session, held: Hold) -> None:
    legs = {
        Account.HELD: -held.monthly - held.purchased,
        Account.MONTHLY: held.monthly,
        Account.PURCHASED: held.purchased,
    }
    key = f"job:{held.job_id}:release"
    post(
        session,
        held.user_id,
        key,
        Type.RELEASE,
        legs,
        job_id=held.job_id,
        description="Hold released",
    )


def _capture(session: Session, held: Hold, cost: int) -> None:
    if held.monthly + held.purchased:
        monthly, purchased = draw(cost, held.monthly, held.purchased)
        legs = {Account.MONTHLY: -monthly, Account.PURCHASED: -purchased, Account.REVENUE: cost}
    else:
        # An unlimited plan pays by invoice: what the user owes is a negative receivable.
        legs = {Account.RECEIVABLE: -cost, Account.REVENUE: cost}
    key = f"job:{held.job_id}:capture"
    text = f"{cost} GPU second{'s' if cost > 1 else ''}"
    post(session, held.user_id, key, Type.GENERATION, legs, job_id=held.job_id, description=text)


def _expire(session: Session, held: Hold, credits: int) -> None:
    # They were set aside in an earlier month, and would have expired with the rest of it.
    legs = {Account.MONTHLY: -credits, Account.GRANTS: credits}
    key = f"job:{held.job_id}:expiry"
    text = "Credits of an earlier month, not used by the job they were held for"
    post(session, held.user_id, key, Type.EXPIRY, legs, job_id=held.job_id, description=text)
