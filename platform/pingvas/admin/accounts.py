"""Routes of accounts: find, show, change, adjust credits."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator
from sqlalchemy import select

from pingvas import db, ids
from pingvas.accounts import users
from pingvas.accounts.models import User
from pingvas.admin import members, staff
from pingvas.admin.members import Changes, OnesOwnAccount, TooFewCredits
from pingvas.billing import wallets
from pingvas.billing.ledger import MAX_GRANT
from pingvas.billing.models import Wallet
from pingvas.errors import Forbidden, NotFound
from pingvas.web import auth
from pingvas.web.api import Answer, Body, Reply, endpoint
from pingvas.web.paging import Page, PageQuery, paginate

bp = staff.blueprint("users")

Tier = Literal["enterprise", "studio", "pro", "starter", "free"]
Role = Literal["user", "artist", "admin", "operator"]
Reason = Field(min_length=3, max_length=500, description="Why; goes into the trail.")


class UsersQuery(PageQuery):
    """Which accounts to list."""

    email: str | None = Field(None, min_length=1, max_length=254, description="A part of the address.")
    tier: Tier | None = None
    role: Role | None = None
    suspended: bool | None = None


class MemberReply(Reply):
    """An account."""

    id: UUID
    email: str
    name: str | None
    tier: str
    role: str
    created_at: datetime
    suspended_at: datetime | None


class CreditsReply(Reply):
    """Credits of an account; `balance` = monthly + purchased."""

    balance: int
    monthly: int
    purchased: int
    held: int


class MemberDetail(MemberReply):
    """An account with its credits."""

    credits: CreditsReply


class PatchBody(Body):
    """What to change; what is absent stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"tier": "pro", "reason": "agreed by mail"}], "minProperties": 2}
    )

    tier: Tier | None = None
    role: Role | None = None
    suspended: bool | None = None
    reason: str = Reason

    @model_validator(mode="after")
    def _something(self) -> "PatchBody":
        if self.tier is None and self.role is None and self.suspended is None:
            raise ValueError("one of tier, role and suspended is needed")
        return self


class CreditsBody(Body):
    """Credits to give, or below zero to take back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"amount": 500, "reason": "outage of 3 May"}]})

    amount: int = Field(ge=-MAX_GRANT, le=MAX_GRANT, json_schema_extra={"not": {"const": 0}})
    reason: str = Reason


@bp.get("/users")
@staff.staff("users.list", "admin")
@endpoint(query=UsersQuery, reply=Page[MemberReply], scope="admin")
def list_users(query: UsersQuery) -> Answer:
    """List accounts, newest first"""
    found = select(User)
    if query.email is not None:
        found = found.where(User.email.contains(query.email.lower(), autoescape=True))
    if query.tier is not None:
        found = found.where(User.tier == query.tier)
    if query.role is not None:
        found = found.where(User.role == query.role)
    if query.suspended is not None:
        found = found.where(
            User.suspended_at.is_not(None) if query.suspended else User.suspended_at.is_(None)
        )
    with db.transaction() as session:
        return paginate(session, found, query, by=(User.id,), item=MemberReply.model_validate)


@bp.get("/users/<user_id>")
@staff.staff("users.show", "admin")
@endpoint(reply=MemberDetail, scope="admin", errors=(NotFound,))
def show_user(user_id: str) -> MemberDetail:
    """Show an account"""
    with db.transaction() as session:
        return _detail(users.get(session, ids.parse(user_id)))


@bp.patch("/users/<user_id>")
@staff.staff("users.change", "admin")
@endpoint(body=PatchBody, reply=MemberDetail, scope="admin", errors=(NotFound, OnesOwnAccount, Forbidden))
def change_user(user_id: str, body: PatchBody) -> MemberDetail:
    """Change an account's plan or role, suspend it or let it back in

    A role is changed after a step-up only. Suspending cancels the jobs that wait and releases their holds.
    """
    wanted, principal = ids.parse(user_id), auth.current()
    if body.role is not None:
        auth.check_stepped_up(principal)
    if wanted == principal.id and (body.role is not None or body.suspended is not None):
        raise OnesOwnAccount("Another admin has to change your role, or suspend you.")
    changes = Changes(body.tier, body.role, body.suspended)
    with db.transaction():
        return _detail(members.change(staff.actor(), wanted, changes, body.reason))


@bp.post("/users/<user_id>/credits")
@staff.staff("users.credits", "admin", step_up=True)
@endpoint(
    body=CreditsBody, reply=CreditsReply, scope="admin", errors=(NotFound, TooFewCredits), idempotent=True
)
def adjust_credits(user_id: str, body: CreditsBody) -> CreditsReply:
    """Give credits that do not expire, or take them back

    One ledger transaction of the type `adjustment`; asks for a step-up.
    """
    return _credits(members.adjust(staff.actor(), ids.parse(user_id), body.amount, body.reason))


def _detail(user: User) -> MemberDetail:
    with db.transaction() as session:
        credits = _credits(wallets.read(session, user.id))
    return MemberDetail(**MemberReply.model_validate(user).model_dump(), credits=credits)


def _credits(wallet: Wallet) -> CreditsReply:
    return CreditsReply(
        balance=wallet.monthly + wallet.purchased,
        monthly=wallet.monthly,
        purchased=wallet.purchased,
        held=wallet.held,
    )
