"""A customer, the shop's settings, a clock that can be moved, and webhooks in the documented shape."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from pingvas import clock, db
from pingvas.accounts.models import User
from pingvas.accounts.register import register
from pingvas.billing import reconcile, wallets
from pingvas.billing.lemonsqueezy import inbox
from pingvas.billing.models import LedgerTransaction, Wallet
from pingvas.embedded.servers import forget_settings

VARIANTS = (
    "starter/month=11,starter/year=12,pro/month=13,pro/year=14,studio/month=15,studio/year=16,"
    "1000=21,5000=22,10000=23"
)
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECRET = "a secret of the shop"


class Clock:
    """The time of `clock.now()`: stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def to(self, moment: datetime) -> None:
        self.now = moment

    def forward(self, **delta: float) -> None:
        self.now += timedelta(**delta)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands at the last of January 2026, at noon."""
    held = Clock()
    monkeypatch.setattr(clock, "now", lambda: held.now)
    return held


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, clean_db: None) -> Iterator[None]:
    """The shop is configured."""
    monkeypatch.setenv("PINGVAS_LEMONSQUEEZY_API_KEY", "key of the shop")
    monkeypatch.setenv("PINGVAS_LEMONSQUEEZY_STORE_ID", "7")
    monkeypatch.setenv("PINGVAS_LEMONSQUEEZY_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("PINGVAS_LEMONSQUEEZY_VARIANTS", VARIANTS)
    forget_settings()
    yield
    monkeypatch.undo()
    forget_settings()


@pytest.fixture
def customer(clean_db: None) -> UUID:
    """A customer on the free plan."""
    return register("payer@example.com", "correct horse battery").id


class Books:
    """What a customer has, and what the ledger says."""

    def __init__(self, user_id: UUID) -> None:
        self.user_id = user_id

    @property
    def wallet(self) -> Wallet:
        with db.transaction() as session:
            return wallets.read(session, self.user_id)

    @property
    def balances(self) -> tuple[int, int, int]:
        wallet = self.wallet
        return wallet.monthly, wallet.purchased, wallet.held

    @property
    def tier(self) -> str:
        with db.transaction() as session:
            return session.get_one(User, self.user_id).tier

    @property
    def lines(self) -> list[tuple[str, int]]:
        """Type and amount of each transaction, the oldest first."""
        query = select(LedgerTransaction).where(LedgerTransaction.user_id == self.user_id)
        with db.transaction() as session:
            rows = session.scalars(query.order_by(LedgerTransaction.id))
            return [(row.type, row.amount) for row in rows]

    def problems(self) -> dict[str, list[str]]:
        """What is wrong with the books."""
        with db.transaction() as session:
            return reconcile.problems(session)


@pytest.fixture
def books(customer: UUID) -> Books:
    return Books(customer)


def event(name: str, data: dict[str, Any], user_id: UUID | None) -> bytes:
    """Return a webhook's body."""
    meta: dict[str, Any] = {"event_name": name, "test_mode": True}
    if user_id is not None:
        meta["custom_data"] = {"user_id": str(user_id)}
    return json.dumps({"meta": meta, "data": data}).encode()


def deliver(*bodies: bytes) -> dict[str, int]:
    """Store webhooks and handle what is due."""
    for body in bodies:
        inbox.store(body)
    return inbox.handle_due()
