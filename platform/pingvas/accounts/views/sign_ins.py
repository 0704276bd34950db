"""Routes: where one is signed in, and ending that."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from pingvas import db, ids
from pingvas.accounts import sign_ins, tokens
from pingvas.accounts.models import SignInRow
from pingvas.accounts.views.blueprint import bp
from pingvas.web import auth
from pingvas.web.api import Answer, Reply, endpoint
from pingvas.web.paging import Page, PageQuery, paginate


class SignInItem(Reply):
    """A sign-in that counts."""

    id: UUID
    current: bool = Field(description="Whether this request came from it.")
    address: str | None = Field(description="Where it came from; of an IPv6 address the network of 64 bits.")
    user_agent: str | None
    second_factor: bool
    created_at: datetime
    last_used_at: datetime = Field(description="When its tokens were last exchanged for new ones.")
    expires_at: datetime


@bp.get("/auth/sessions")
@endpoint(query=PageQuery, reply=Page[SignInItem], scope="account")
def list_sign_ins(query: PageQuery) -> Answer:
    """List the sign-ins of this account."""
    principal = auth.current()

    def item(row: SignInRow) -> SignInItem:
        return SignInItem(
            id=row.id,
            current=row.id == principal.sign_in,
            address=row.address,
            user_agent=row.user_agent,
            second_factor=row.second_factor_at is not None,
            created_at=row.created_at,
            last_used_at=row.last_used_at,
            expires_at=row.expires_at,
        )

    with db.transaction() as session:
        by = (SignInRow.created_at, SignInRow.id)
        return paginate(session, sign_ins.of(principal.id), query, by=by, item=item)


@bp.delete("/auth/sessions/<session_id>")
@endpoint(status=204, scope="account")
def end_sign_in(session_id: str) -> None:
    """End a sign-in: its tokens and its session cookie are refused from now on."""
    with db.transaction() as session:
        sign_ins.end(session, auth.current().id, ids.parse(session_id))


@bp.post("/auth/logout-all")
@endpoint(status=204, scope="account")
def logout_everywhere() -> None:
    """End every sign-in of this account, this one as well; API keys go on working."""
    with db.transaction() as session:
        tokens.end_all(session, auth.current().id)
    auth.end_session()
