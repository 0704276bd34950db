"""Tables of what was paid for, as the payment provider tells it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, String
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from pingvas import ids
from pingvas.billing.subscriptions.decide import Phase
from pingvas.db import Base

_TIERS = "('enterprise', 'studio', 'pro', 'starter', 'free')"


class Subscription(Base):
    """A subscription: the newest that the provider has said of it, and what has been made of that.

    `tier` is what its customer will go on paying for; `best_tier` the highest that was paid for in the term
    that ends at `best_until`. `phase` is new, running, resting (paused) or ended; `changes` numbers its
    ledger transactions. `created_at` is what months are counted from. `asked_at` is when the provider was
    last asked, since nothing was heard of a renewal.
    """

    __tablename__ = "subscriptions"
    __table_args__ = (
        CheckConstraint(f"tier IN {_TIERS} AND best_tier IN {_TIERS}", name="tier"),
        CheckConstraint("phase IN ('new', 'running', 'resting', 'ended')", name="phase"),
        Index("ix_subscriptions_user_id", "user_id"),
        Index(
            "ix_subscriptions_running",
            "best_until",
            "ends_at",
            postgresql_where="phase = 'running'",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=ids.new)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    provider_id: Mapped[str] = mapped_column(String(64), unique=True)
    status: Mapped[str] = mapped_column(String(16))
    tier: Mapped[str] = mapped_column(String(16))
    interval: Mapped[str] = mapped_column(String(8))
    renews_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    best_tier: Mapped[str] = mapped_column(String(16))
    best_until: Mapped[datetime]
    phase: Mapped[str] = mapped_column(String(8), default="new")
    started_at: Mapped[datetime | None]
    changes: Mapped[int] = mapped_column(Integer, default=0)
    asked_at: Mapped[datetime | None]

    @hybrid_property
    def renews(self) -> bool:
        """Whether it will be paid for again if nobody does anything; in queries too, hence `&`."""
        return (self.phase == Phase.RUNNING) & (self.status != "cancelled")


class SubscriptionPayment(Base):
    """One attempt to collect an invoice: `outcome` is paid or failed."""

    __tablename__ = "subscription_payments"
    __table_args__ = (CheckConstraint("outcome IN ('paid', 'failed')", name="outcome"),)

    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"), primary_key=True)
    invoice_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(8), primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))


class Purchase(Base):
    """A paid order of credits. Of refunds, `taken` is what could be taken back, `shortfall` the rest."""

    __tablename__ = "purchases"
    __table_args__ = (
        CheckConstraint(
            "credits > 0 AND taken >= 0 AND shortfall >= 0 AND taken + shortfall <= credits", name="parts"
        ),
        Index("ix_purchases_user_id", "user_id"),
    )

    order_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    credits: Mapped[int] = mapped_column(BigInteger)
    taken: Mapped[int] = mapped_column(BigInteger, default=0)
    shortfall: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime]
