"""Double entry in integer credits: every transaction's entries sum to zero, every transaction happens once.

A user's transactions are serialised by the lock on the wallet row, so the check "was this business key
posted already" and the posting itself cannot race. Nothing here commits: callers bring the unit of work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from pingvas import clock, ids
from pingvas.billing.models import LedgerEntry, LedgerTransaction, Wallet
from pingvas.errors import InsufficientCredits, NotFound


class Account(StrEnum):
    """Accounts of a user (the first four) and of the platform.

    `grants` is what was given less what has expired, `sales` what was bought less what was refunded.
    """

    MONTHLY = "monthly"
    PURCHASED = "purchased"
    HELD = "held"
    RECEIVABLE = "receivable"
    GRANTS = "grants"
    SALES = "sales"
    REVENUE = "revenue"


class Type(StrEnum):
    """What a transaction is, as the statement shows it; docs/billing.md has the entries of each."""

    MONTHLY_ALLOCATION = "monthly_allocation"
    PURCHASE = "purchase"
    HOLD = "hold"
    RELEASE = "release"
    GENERATION = "generation"
    API_CALL = "api_call"
    EXPIRY = "expiry"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"


OF_USER = frozenset({Account.MONTHLY, Account.PURCHASED, Account.HELD, Account.RECEIVABLE})
IN_WALLET = (Account.MONTHLY, Account.PURCHASED, Account.HELD)
Legs = Mapping[Account, int]


@dataclass(frozen=True)
class Balances:
    """A wallet's balances in credits."""

    monthly: int
    purchased: int
    held: int

    @property
    def spendable(self) -> int:
        """What can be spent now: monthly + purchased."""
        return self.monthly + self.purchased


def draw(amount: int, monthly: int, purchased: int) -> tuple[int, int]:
    """Split `amount` over the two balances, monthly first: it expires, purchased credits do not.

    Raises:
        InsufficientCredits: the two together hold less than `amount`.
    """
    if amount > monthly + purchased:
        raise InsufficientCredits(
            f"This needs {amount} credits and {monthly + purchased} are available.",
            required=amount,
            available=monthly + purchased,
        )
    from_monthly = min(amount, monthly)
    return from_monthly, amount - from_monthly


def lock(session: Session, user_id: UUID) -> Balances:
    """Lock a user's wallet until the unit of work ends and return its balances.

    Raises:
        NotFound: the user has no wallet.
    """
    columns = (Wallet.monthly, Wallet.purchased, Wallet.held)
    row = session.execute(select(*columns).where(Wallet.user_id == user_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"User {user_id} has no wallet.")
    return Balances(*row)


def post(
    session: Session,
    user_id: UUID,
    business_key: str,
    type: str,  # noqa: A002 (the contract's name)
    legs: Legs,
    *,
    job_id: UUID | None = None,
    description: str = "",
    actor: str | None = None,
) -> bool:
    """Post one transaction; False when this business key has been posted before.

    `actor` is who did it by hand.

    Raises:
        ValueError: the legs do not sum to zero.
        InsufficientCredits: a balance would fall below zero.
    """
    legs = {account: amount for account, amount in legs.items() if amount}
    if sum(legs.values()):
        raise ValueError(f"{business_key}: entries sum to {sum(legs.values())}, not to zero")
    before = lock(session, user_id)
    if session.scalar(select(LedgerTransaction.id).where(LedgerTransaction.business_key == business_key)):
        return False
    after = _moved(session, user_id, before, legs)
    transaction_id = ids.new()
    session.execute(
        insert(LedgerTransaction).values(
            id=transaction_id,
            business_key=business_key,
            type=type,
            user_id=user_id,
            job_id=job_id,
            # A metered charge moves no balance; what it cost is its receivable.
            amount=after.spendable - before.spendable + legs.get(Account.RECEIVABLE, 0),
            balance_after=after.spendable,
            description=description,
            actor=actor,
            created_at=clock.now(),
        )
    )
    if legs:
        # One statement, because the zero-sum trigger looks at a statement's rows.
        session.execute(
            insert(LedgerEntry).values([_entry(transaction_id, user_id, *leg) for leg in legs.items()])
        )
    return True


def _entry(transaction_id: UUID, user_id: UUID, account: Account, amount: int) -> dict[str, object]:
    owner = user_id if account in OF_USER else None
    return {"transaction_id": transaction_id, "user_id": owner, "account": account.value, "amount": amount}


def _moved(session: Session, user_id: UUID, before: Balances, legs: Legs) -> Balances:
    after = Balances(*(getattr(before, account) + legs.get(account, 0) for account in IN_WALLET))
    if min(after.monthly, after.purchased, after.held) < 0:
        raise InsufficientCredits(
            required=-sum(min(leg, 0) for leg in legs.values()), available=before.spendable
        )
    if after != before:
        session.execute(update(Wallet).where(Wallet.user_id == user_id).values(**after.__dict__))
    return after
