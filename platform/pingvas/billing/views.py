"""Routes of credits and plans."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from pingvas import db, ids
from pingvas.accounts import users
from pingvas.billing import plans, wallets
from pingvas.billing.models import LedgerTransaction
from pingvas.errors import NotFound
from pingvas.web import auth, paging
from pingvas.web.api import Answer, Blueprint, Reply, endpoint
from pingvas.web.paging import Page, PageQuery

bp = Blueprint("billing", tag="Credits")


class BalanceReply(Reply):
    """Credits; `balance` = monthly + purchased is what can be spent now."""

    balance: int
    monthly: int
    purchased: int
    held: int
    monthly_allocation: int
    last_reset_at: datetime
    resets_at: datetime
    unlimited: bool


class TransactionReply(Reply):
    """One line of the statement; `amount` is the change of what can be spent."""

    id: str
    type: str
    amount: int
    balance_after: int
    job_id: str | None
    description: str
    created_at: datetime


class TierReply(Reply):
    """Your plan; null where it sets no limit."""

    tier: str
    features: dict[str, Any]


class PlanReply(Reply):
    """A plan; prices in US dollars, null where it sets no limit."""

    tier: str
    title: str
    price_monthly: int
    price_yearly: int
    unlimited: bool
    features: dict[str, Any]


class PackageReply(Reply):
    """Credits that are bought once and kept; the price is in US dollars."""

    package: str
    credits: int
    price: int


class PlansReply(Reply):
    """The plan table, highest first, and the packages of credits."""

    items: list[PlanReply]
    packages: list[PackageReply]
    api_call_credits: int


@bp.get("/credits/balance")
@endpoint(reply=BalanceReply)
def own_balance() -> BalanceReply:
    """Show your credits"""
    user = auth.current()
    return _balance(user.id, user.tier)


@bp.get("/credits/balance/<user_id>")
@endpoint(reply=BalanceReply, errors=(NotFound,))
def balance(user_id: str) -> BalanceReply:
    """Show the credits of an account: your own, or any for an admin"""
    asking, wanted = auth.current(), ids.parse(user_id)
    if wanted == asking.id:
        return _balance(asking.id, asking.tier)
    if asking.role != "admin":
        raise NotFound
    auth.check_role(asking, "admin")
    with db.acting_as_operator(), db.transaction() as session:
        return _balance(wanted, users.get(session, wanted).tier)


def _balance(user_id: UUID, tier: str) -> BalanceReply:
    plan = plans.of(tier)
    with db.transaction() as session:
        wallet = wallets.read(session, user_id)
    return BalanceReply(
        balance=wallet.monthly + wallet.purchased,
        monthly=wallet.monthly,
        purchased=wallet.purchased,
        held=wallet.held,
        monthly_allocation=plan.monthly_credits,
        last_reset_at=wallet.last_reset_at,
        resets_at=wallet.resets_at,
        unlimited=plan.unlimited,
    )


@bp.get("/credits/transactions")
@endpoint(query=PageQuery, reply=Page[TransactionReply])
def transactions(query: PageQuery) -> Answer:
    """List your transactions, newest first"""
    own = select(LedgerTransaction).where(LedgerTransaction.user_id == auth.current().id)
    with db.transaction() as session:
        return paging.paginate(session, own, query, by=(LedgerTransaction.id,), item=_line)


def _line(row: LedgerTransaction) -> TransactionReply:
    return TransactionReply(
        id=str(row.id),
        type=row.type,
        amount=row.amount,
        balance_after=row.balance_after,
        job_id=str(row.job_id) if row.job_id else None,
        description=row.description,
        created_at=row.created_at,
    )


@bp.get("/users/me/tier")
@endpoint(reply=TierReply)
def own_tier() -> TierReply:
    """Show your plan"""
    tier = auth.current().tier
    return TierReply(tier=tier, features=_features(plans.of(tier)))


@bp.get("/plans")
@endpoint(reply=PlansReply, public=True)
def list_plans() -> PlansReply:
    """List the plans"""
    items = [
        PlanReply(
            tier=tier,
            title=plan.title,
            price_monthly=plan.price_monthly,
            price_yearly=plan.price_yearly,
            unlimited=plan.unlimited,
            features=_features(plan),
        )
        for tier, plan in plans.table().items()
    ]
    prices = plans.prices()
    packages = [
        PackageReply(package=name, credits=package.credits, price=package.price)
        for name, package in prices.packages.items()
    ]
    return PlansReply(items=items, packages=packages, api_call_credits=prices.api_call_credits)


def _features(plan: plans.Plan) -> dict[str, Any]:
    return {
        "max_concurrent_jobs": plans.limit(plan.max_concurrent_jobs),
        "max_queue_size": plans.limit(plan.max_queue_size),
        "priority": plan.priority,
        "monthly_credits": plan.monthly_credits,
        "storage_bytes": plans.limit(plan.storage_bytes),
        "api_calls_per_month": plans.limit(plan.api_calls_per_month),
        "generate_per_minute": plans.limit(plan.generate_per_minute),
        "features": plan.features,
    }
