"""Credits that are bought once, and taken back when the order is refunded."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from pingvas.billing import ledger
from pingvas.billing.ledger import Account, Type
from pingvas.billing.subscriptions.models import Purchase


@dataclass(frozen=True)
class Order:
    """A paid order as the provider tells it: of `total`, `refunded` has been paid back so far, in cents."""

    order_id: str
    credits: int
    total: int
    refunded: int
    fully_refunded: bool
    created_at: datetime

    @property
    def credits_refunded(self) -> int:
        """Credits that belong to the money that was paid back."""
        if self.fully_refunded:
            return self.credits
        return min(self.credits, self.credits * self.refunded // self.total) if self.total else 0


def take_in(session: Session, user_id: UUID, order: Order) -> bool:
    """Give an order's credits and take back those of its refunds, each once; False when nothing was new.

    Orders and refunds may come in any order and any number of times. What has been spent cannot be taken
    back: that much is written down as the purchase's shortfall.
    """
    ledger.lock(session, user_id)
    given = _give(session, user_id, order)
    purchase = session.get_one(Purchase, order.order_id, populate_existing=True)
    missing = order.credits_refunded - purchase.taken - purchase.shortfall
    if missing <= 0:
        return given
    taken = min(missing, ledger.lock(session, user_id).purchased)
    if taken:
        legs = {Account.PURCHASED: -taken, Account.SALES: taken}
        key = f"order:{order.order_id}:refund:{purchase.taken + purchase.shortfall + missing}"
        ledger.post(session, user_id, key, Type.REFUND, legs, description="Purchase refunded")
    purchase.taken += taken
    purchase.shortfall += missing - taken
    session.flush()
    return True


def _give(session: Session, user_id: UUID, order: Order) -> bool:
    values = {"user_id": user_id, "credits": order.credits, "taken": 0, "shortfall": 0}
    row = insert(Purchase).values(order_id=order.order_id, created_at=order.created_at, **values)
    session.execute(row.on_conflict_do_nothing())
    legs = {Account.PURCHASED: order.credits, Account.SALES: -order.credits}
    text = f"{order.credits} credits bought"
    return ledger.post(session, user_id, f"order:{order.order_id}", Type.PURCHASE, legs, description=text)
