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

from pingvas import clock, db, ids
from pingvas.billing.models import Hold, LedgerEntry, LedgerTransaction, Wallet
from pingvas.errors import InsufficientCredits, Invalid, NotFound


class Account(StrEnum):
    """Accounts of a user (the first four) and of the platform."""

    MONTHLY = "monthly"
    PURCHASED = "purchased"
    HELD = "held"
    RECEIVABLE = "receivable"
    GRANTS = "grants"
    REVENUE = "revenue"


MAX_GRANT = 10**12
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
) -> bool:
    """Post one transaction; False when this business key has been posted before.

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


def grant(
    user_id: UUID,
    amount: int,
    *,
    business_key: str,
    type: str = "adjustment",  # noqa: A002 (the contract's name)
    description: str = "",
) -> bool:
    """Give purchased credits (kept until used), or take them back with a negative amount.

    Returns:
        False when this business key has been posted before.

    Raises:
        Invalid: the amount is zero or beyond any wallet.
        InsufficientCredits: more would be taken back than there is.
    """
    if not 0 < abs(amount) <= MAX_GRANT:
        raise Invalid(f"A grant is 1 to {MAX_GRANT} credits, or as many below zero; not {amount}.")
    with db.transaction() as session:
        legs = {Account.PURCHASED: amount, Account.GRANTS: -amount}
        return post(session, user_id, business_key, type, legs, description=description)


def hold(session: Session, user_id: UUID, job_id: UUID, quote: int, *, metered: bool = False) -> None:
    """Set a job's quote aside, monthly credits first; a metered user's hold sets nothing aside.

    Raises:
        InsufficientCredits: monthly + purchased are below the quote.
    """
    balances = lock(session, user_id)
    monthly, purchased = (0, 0) if metered else draw(quote, balances.monthly, balances.purchased)
    session.execute(
        insert(Hold).values(
            job_id=job_id,
            user_id=user_id,
            quote=quote,
            monthly=monthly,
            purchased=purchased,
            created_at=clock.now(),
        )
    )
    if monthly + purchased:
        legs = {
            Account.MONTHLY: -monthly,
            Account.PURCHASED: -purchased,
            Account.HELD: monthly + purchased,
        }
        post(
            session, user_id, f"job:{job_id}:hold", "hold", legs, job_id=job_id, description="Held for a job"
        )


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
        session, held.user_id, key, "release", legs, job_id=held.job_id, description="Hold of a job released"
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
    post(session, held.user_id, key, "generation", legs, job_id=held.job_id, description=text)
