"""What the routes of accounts share: their heading, an account and a sign-in as they go out."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from flask import request
from pydantic import Field

from pingvas.accounts import principals, tokens
from pingvas.accounts.tokens import Origin
from pingvas.web import auth, limits
from pingvas.web.api import Blueprint, Reply

bp = Blueprint("accounts", tag="Accounts")

_AGENT_CHARACTERS = 200


class UserReply(Reply):
    """An account."""

    id: UUID
    email: str
    email_verified_at: datetime | None = Field(description="Null: nobody has proved to own the address yet.")
    name: str | None
    tier: str
    role: str
    language: str = Field(description="Of mails: `en` or `ko`.")
    created_at: datetime


class TokensReply(Reply):
    """Tokens of a sign-in; `expires_in` counts the seconds of the access token."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 (not a secret)
    expires_in: int
    user: UserReply


class SignInReply(TokensReply):
    """Tokens, and what a browser needs beside the session cookie that comes along."""

    csrf_token: str = Field(description="With the session cookie, changes repeat it in `X-CSRF-Token`.")


def origin() -> Origin:
    """Return where this request comes from, as the list of sign-ins shows it."""
    agent = "".join(filter(str.isprintable, request.headers.get("User-Agent", "")))
    return Origin(limits.caller()[:45] or None, agent[:_AGENT_CHARACTERS] or None)


def with_session(signed_in: tokens.SignIn) -> SignInReply:
    """Sign the browser in as well; whatever session it had before ends here."""
    csrf_token = auth.start_session(principals.of(signed_in))
    return SignInReply(**dict(tokens_reply(signed_in)), csrf_token=csrf_token)


def tokens_reply(signed_in: tokens.SignIn) -> TokensReply:
    """Return a sign-in's tokens."""
    return TokensReply(
        access_token=signed_in.access_token,
        refresh_token=signed_in.refresh_token,
        expires_in=signed_in.expires_in,
        user=UserReply.model_validate(signed_in.user),
    )
