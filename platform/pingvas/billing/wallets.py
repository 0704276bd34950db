"""A user's wallet: opened at registration with the plan's monthly credits."""

import calendar
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from pingvas import clock
from pingvas.accounts.models import User
from pingvas.billing import ledger, plans
from pingvas.billing.ledger import Account
from pingvas.billing.models import Wallet
from pingvas.errors import NotFound


def next_month(moment: datetime, day: int) -> datetime:
    """Return the same time in the month after `moment`, on `day` or that month's last day."""
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
    return moment.replace(year=year, month=month, day=min(day, calendar.monthrange(year, month)[1]))


def open_wallet(session: Session, user: User) -> None:
    """Open a new user's wallet and grant the first month's credits, in the caller's unit of work."""
    now = clock.now()
    session.flush()
    session.execute(
        insert(Wallet).values(user_id=user.id, last_reset_at=now, resets_at=next_month(now, now.day))
    )
    credits = plans.of(user.tier).monthly_credits
    if credits:
        legs = {Account.MONTHLY: credits, Account.GRANTS: -credits}
        key = f"reset:{user.id}:{now:%Y-%m-%d}"
        ledger.post(
            session, user.id, key, "monthly_allocation", legs, description="Credits of the first month"
        )


def read(session: Session, user_id: UUID) -> Wallet:
    """Return a user's wallet.

    Raises:
        NotFound: no such user.
    """
    wallet = session.scalars(select(Wallet).where(Wallet.user_id == user_id)).one_or_none()
    if wallet is None:
        raise NotFound
    return wallet
