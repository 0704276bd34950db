"""A user's wallet: opened at registration with the plan's credits; months begin, grow and end early."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from pingvas import clock
from pingvas.accounts.models import User
from pingvas.billing import ledger, months, plans
from pingvas.billing.ledger import Account, Type
from pingvas.billing.models import Hold, Wallet
from pingvas.errors import NotFound


def open_wallet(session: Session, user: User) -> None:
    """Open a new user's wallet and grant the first month's credits, in the caller's unit of work."""
    now = clock.now()
    session.flush()
    session.execute(
        insert(Wallet).values(
            user_id=user.id, anchor_at=now, last_reset_at=now, resets_at=months.month(now, now).end
        )
    )
    allocate(session, user.id, plans.of(user.tier).monthly_credits, month_key(user.id, now), "first month")


def month_key(user_id: UUID, start: datetime) -> str:
    """Return the business key of a month's allocation; `resets.chunk` writes the same."""
    return f"reset:{user_id}:{start:%Y-%m-%dT%H:%M}"


def read(session: Session, user_id: UUID) -> Wallet:
    """Return a user's wallet.

    Raises:
        NotFound: no such user.
    """
    wallet = session.scalars(select(Wallet).where(Wallet.user_id == user_id)).one_or_none()
    if wallet is None:
        raise NotFound
    return wallet


def allocate(session: Session, user_id: UUID, credits: int, key: str, what: str) -> None:
    """Give monthly credits, which count as those of the present month; `key` makes it once only."""
    if credits <= 0:
        return
    legs = {Account.MONTHLY: credits, Account.GRANTS: -credits}
    text = f"Credits of the {what}"
    if ledger.post(session, user_id, key, Type.MONTHLY_ALLOCATION, legs, description=text):
        grown = Wallet.allocated + credits
        session.execute(update(Wallet).where(Wallet.user_id == user_id).values(allocated=grown))


def begin_month(session: Session, user_id: UUID, anchor: datetime, credits: int, key: str) -> None:
    """Begin a new month out of turn, as a subscription does: what is left expires, `credits` are given.

    Months are counted from `anchor` from now on.
    """
    now = clock.now()
    expire(session, user_id, key)
    values = {
        "anchor_at": anchor,
        "resets_at": months.month(anchor, now).end,
        "last_reset_at": now,
        "allocated": 0,
    }
    session.execute(update(Wallet).where(Wallet.user_id == user_id).values(**values))
    allocate(session, user_id, credits, key, "first month of a plan")


def follow(session: Session, wallet: Wallet, anchor: datetime) -> None:
    """Count a wallet's months from another anchor, if it is billed on another day; none is cut short."""
    if wallet.anchor_at != anchor:
        wallet.anchor_at = anchor
        month = months.month(anchor, wallet.resets_at)
        wallet.resets_at = month.start if month.start == wallet.resets_at else month.end
        session.flush()


def expire(session: Session, user_id: UUID, key: str) -> None:
    """Let the monthly credits that are left expire, held ones too unless their jobs use them."""
    left = ledger.lock(session, user_id).monthly
    if left:
        legs = {Account.MONTHLY: -left, Account.GRANTS: left}
        ledger.post(
            session, user_id, f"{key}:expiry", Type.EXPIRY, legs, description="Monthly credits expired"
        )
    open_holds = update(Hold).where(Hold.user_id == user_id, Hold.settled_at.is_(None), Hold.monthly > 0)
    session.execute(open_holds.values(lapsed=True))
    kept = Wallet.allocated - left
    session.execute(update(Wallet).where(Wallet.user_id == user_id).values(allocated=kept))
