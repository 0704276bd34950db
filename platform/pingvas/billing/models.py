"""Tables of the ledger. Entries are append-only and each transaction's entries sum to zero (triggers)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from pingvas import ids
from pingvas.db import Base


class Wallet(Base):
    """A user's running balances in credits: always the sum of that user's entries, never below zero.

    Months are counted from `anchor_at` (on the 31st: to the last day of shorter ones). `allocated` is what
    was given for the present month and not taken back; `told_low_at` is when the user was told to be short.
    """

    __tablename__ = "wallets"
    __table_args__ = (
        CheckConstraint("monthly >= 0", name="monthly"),
        CheckConstraint("purchased >= 0", name="purchased"),
        CheckConstraint("held >= 0", name="held"),
        Index("ix_wallets_resets_at", "resets_at"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    monthly: Mapped[int] = mapped_column(BigInteger, default=0)
    purchased: Mapped[int] = mapped_column(BigInteger, default=0)
    held: Mapped[int] = mapped_column(BigInteger, default=0)
    last_reset_at: Mapped[datetime]
    resets_at: Mapped[datetime]
    anchor_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    allocated: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    told_low_at: Mapped[datetime | None]
    api_calls: Mapped[int] = mapped_column(default=0, server_default="0")
    api_calls_since: Mapped[datetime | None]


class LedgerTransaction(Base):
    """One business event; `business_key` makes doing it twice the same as doing it once."""

    __tablename__ = "ledger_transactions"
    __table_args__ = (
        Index("ix_ledger_transactions_user_id_id", "user_id", "id"),
        Index("ix_ledger_transactions_job_id", "job_id", postgresql_where="job_id IS NOT NULL"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=ids.new)
    business_key: Mapped[str] = mapped_column(String(200), unique=True)
    type: Mapped[str] = mapped_column(String(32))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    job_id: Mapped[UUID | None]
    amount: Mapped[int] = mapped_column(BigInteger)
    balance_after: Mapped[int] = mapped_column(BigInteger)
    description: Mapped[str] = mapped_column(Text, default="")
    actor: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime]


class LedgerEntry(Base):
    """One leg of a transaction, one for each account. `user_id` is null for the platform's own accounts.

    That the transaction is there, and of that user, is asked by a trigger for a whole statement at once:
    foreign keys took longer than the rows.
    """

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint("amount <> 0", name="amount"),
        CheckConstraint(
            "(user_id IS NOT NULL) = (account IN ('monthly', 'purchased', 'held', 'receivable'))",
            name="account",
        ),
        CheckConstraint(
            "account IN ('monthly', 'purchased', 'held', 'receivable', 'grants', 'sales', 'revenue')",
            name="known_account",
        ),
    )

    transaction_id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(String(16), primary_key=True)
    user_id: Mapped[UUID | None]
    amount: Mapped[int] = mapped_column(BigInteger)


class Hold(Base):
    """Credits set aside for a job: open while `settled_at` is null, then released, and perhaps captured.

    `quote` is the most the job may cost. A prepaid hold has monthly + purchased = quote; a metered one
    (unlimited plans) sets nothing aside and is charged to the user's receivable. `lapsed`: its
    monthly credits are of a month that has ended; what is not captured of them expires.
    """

    __tablename__ = "holds"
    __table_args__ = (
        CheckConstraint("monthly >= 0 AND purchased >= 0", name="parts"),
        CheckConstraint("monthly + purchased IN (0, quote)", name="whole"),
        CheckConstraint("captured BETWEEN 0 AND quote", name="captured"),
        Index("ix_holds_open", "user_id", postgresql_where="settled_at IS NULL"),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    quote: Mapped[int] = mapped_column(BigInteger)
    monthly: Mapped[int] = mapped_column(BigInteger)
    purchased: Mapped[int] = mapped_column(BigInteger)
    captured: Mapped[int | None] = mapped_column(BigInteger)
    lapsed: Mapped[bool] = mapped_column(default=False, server_default="false")
    created_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
