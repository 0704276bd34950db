"""From facts about subscriptions to plans and credits.

Facts are recorded (`note_snapshot`, `note_payment`); `settle` then makes of all of a user's facts what they
come to. Everything happens under the lock of the user's wallet.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from pingvas import clock, db, ids
from pingvas.accounts import users
from pingvas.accounts.models import User
from pingvas.billing import ledger, months, plans, wallets
from pingvas.billing.months import Month
from pingvas.billing.plans import Tier
from pingvas.billing.subscriptions import decide, notices
from pingvas.billing.subscriptions.decide import Payment, Phase, Snapshot
from pingvas.billing.subscriptions.models import Subscription, SubscriptionPayment
from pingvas.errors import PingvasError

log = logging.getLogger(__name__)


def find(session: Session, provider_id: str) -> Subscription | None:
    """Return a subscription by the provider's id, before its user is known."""
    return session.scalars(select(Subscription).where(Subscription.provider_id == provider_id)).one_or_none()


def note_snapshot(session: Session, user_id: UUID, seen: Snapshot) -> bool:
    """Record what the provider says of a subscription; False when newer is known and this adds nothing."""
    ledger.lock(session, user_id)
    now = clock.now()
    anchor = months.anchored(seen.created_at, seen.billing_day)
    term = _term(anchor, seen.interval, seen.renews_at, now)
    row = find(session, seen.provider_id)
    if row is None:
        row = Subscription(
            id=ids.new(),
            user_id=user_id,
            provider_id=seen.provider_id,
            best_tier=seen.tier,
            best_until=term.end,
            phase=Phase.NEW,
            changes=0,
        )
        session.add(row)
        _take(row, seen, anchor)
        return True
    if now >= row.best_until:
        row.best_tier = row.tier
        row.best_until = _term(row.created_at, row.interval, row.renews_at, now).end
    raised = _raise_best(row, seen, term)
    if seen.order < (row.updated_at, decide.STATUSES.index(row.status)):
        return raised
    _take(row, seen, anchor)
    return True


def _term(anchor: datetime, interval: str, renews_at: datetime | None, now: datetime) -> Month:
    """Return the time that is paid for; it ends with a month of credits: a lower plan begins with one."""
    term = months.month(anchor, now)
    if interval == "year" and renews_at is not None and renews_at > term.end:
        end = months.month(anchor, renews_at + timedelta(days=1)).start
        return Month(months.add(end, -12), end)
    return term


def _raise_best(row: Subscription, seen: Snapshot, term: Month) -> bool:
    paid_for = decide.phase(seen.status, seen.ends_at, (), clock.now()) is Phase.RUNNING
    if not paid_for or seen.updated_at < term.start or seen.tier.rank <= Tier(row.best_tier).rank:
        return False
    row.best_tier, row.best_until = seen.tier, max(row.best_until, term.end)
    return True


def _take(row: Subscription, seen: Snapshot, anchor: datetime) -> None:
    row.status, row.tier, row.interval, row.created_at = seen.status, seen.tier, seen.interval, anchor
    row.renews_at, row.ends_at, row.updated_at = seen.renews_at, seen.ends_at, seen.updated_at


def note_payment(session: Session, row: Subscription, invoice_id: str, payment: Payment) -> bool:
    """Record an attempt to collect an invoice; False when it is known."""
    values = {
        "subscription_id": row.id,
        "invoice_id": invoice_id,
        "outcome": "paid" if payment.paid else "failed",
        "at": payment.at,
        "user_id": row.user_id,
    }
    return db.added(session, insert(SubscriptionPayment).values(**values).on_conflict_do_nothing())


@dataclass(frozen=True)
class _Standing:
    row: Subscription
    phase: Phase
    tier: Tier


def settle(session: Session, user_id: UUID) -> None:
    """Give a user the plan and the credits that all subscriptions together come to.

    A contract (enterprise) is made by hand and stays.
    """
    ledger.lock(session, user_id)
    session.flush()
    user, now = users.get(session, user_id), clock.now()
    standings = _standings(session, user_id, now)
    running = [it for it in standings if it.phase is Phase.RUNNING]
    first = max(running, key=lambda it: it.tier.rank, default=None)
    for it in standings:
        if it is not first and it.phase != it.row.phase:
            if it.phase is Phase.ENDED and not running:
                _end(session, user, it.row)
            it.row.phase = it.phase
    if first is not None:
        _run(session, user, first)
        first.row.phase = Phase.RUNNING
    if user.tier != Tier.ENTERPRISE and standings:
        user.tier = first.tier if first is not None else Tier.FREE
    session.flush()


def _standings(session: Session, user_id: UUID, now: datetime) -> list[_Standing]:
    rows = session.scalars(select(Subscription).where(Subscription.user_id == user_id)).all()
    payments = _payments(session, rows)
    return [
        _Standing(
            row,
            decide.phase(row.status, row.ends_at, payments[row.id], now),
            decide.best(Tier(row.tier), Tier(row.best_tier), row.best_until, now),
        )
        for row in rows
    ]


def _payments(session: Session, rows: Sequence[Subscription]) -> dict[UUID, list[Payment]]:
    mine = SubscriptionPayment.subscription_id.in_([row.id for row in rows])
    found: dict[UUID, list[Payment]] = defaultdict(list)
    for payment in session.scalars(select(SubscriptionPayment).where(mine)):
        found[payment.subscription_id].append(Payment(payment.outcome == "paid", payment.at))
    return found


def _run(session: Session, user: User, it: _Standing) -> None:
    """Begin a plan, or give what a higher one (or one that is back) has more."""
    credits = plans.of(it.tier).monthly_credits
    if it.row.started_at is None:
        it.row.started_at = clock.now()
        wallets.begin_month(session, user.id, it.row.created_at, credits, _key(it.row))
        return
    wallet = wallets.read(session, user.id)
    session.refresh(wallet)
    wallets.follow(session, wallet, it.row.created_at)
    rises = it.tier.rank > Tier(user.tier).rank
    if rises or it.row.phase != Phase.RUNNING:
        missing = credits - wallet.allocated
        wallets.allocate(session, user.id, missing, _key(it.row), f"{it.tier} plan for the rest of the month")


def _end(session: Session, user: User, row: Subscription) -> None:
    wallets.expire(session, user.id, _key(row))
    notices.ended(session, user, row)


def _key(row: Subscription) -> str:
    # Under the wallet's lock a change is made once; the number only keeps several of them apart.
    row.changes += 1
    return f"subscription:{row.provider_id}:{row.changes}"


def settle_due(limit: int = 10_000) -> int:
    """Settle subscriptions whose month or term is over; return how many users there were.

    One that cannot be settled does not stop the others.
    """
    over = or_(
        and_(Subscription.best_until <= clock.now(), Subscription.best_tier != Subscription.tier),
        and_(Subscription.status == "cancelled", Subscription.ends_at <= clock.now()),
    )
    query = select(Subscription.user_id).where(Subscription.phase == "running", over).limit(limit)
    with db.transaction() as session:
        due = set(session.scalars(query))
    for user_id in due:
        try:
            _settle_one(user_id)
        except (PingvasError, SQLAlchemyError):
            log.exception("the subscriptions of user %s cannot be settled", user_id)
    return len(due)


def _settle_one(user_id: UUID) -> None:
    with db.transaction() as session:
        settle(session, user_id)
        for row in session.scalars(select(Subscription).where(Subscription.user_id == user_id)):
            if row.best_until <= clock.now():
                row.best_tier = row.tier
