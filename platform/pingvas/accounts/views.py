"""Routes of accounts: sign-up, sign-in, sign-out, oneself, API keys."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field, SecretStr
from sqlalchemy import select

from pingvas import db, ids
from pingvas.accounts import keys, principals, tokens, users
from pingvas.accounts.models import ApiKey
from pingvas.accounts.register import MAX_EMAIL, MAX_NAME, MAX_PASSWORD, MIN_PASSWORD, register
from pingvas.errors import EmailTaken, Forbidden, InvalidCredentials, Unauthorized
from pingvas.web import auth
from pingvas.web.api import Answer, Blueprint, Body, Reply, endpoint
from pingvas.web.paging import Page, PageQuery, paginate

bp = Blueprint("accounts", tag="Accounts")


class RegisterBody(Body):
    """A new account."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"email": "ada@example.com", "password": "correct horse battery", "name": "Ada"}]
        }
    )

    email: str = Field(max_length=MAX_EMAIL)
    password: SecretStr = Field(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD)
    name: str | None = Field(None, min_length=1, max_length=MAX_NAME)


class LoginBody(Body):
    """Credentials."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ada@example.com", "password": "correct horse battery"}]}
    )

    email: str = Field(max_length=1_024)
    password: SecretStr = Field(max_length=1_024)


class RefreshBody(Body):
    """The refresh token, which this use ends."""

    refresh_token: str = Field(max_length=256)


class LogoutBody(Body):
    """The refresh token of the sign-in to end; without one, that of the access token or cookie is ended."""

    refresh_token: str | None = Field(None, max_length=256)


class UserReply(Reply):
    """An account."""

    id: UUID
    email: str
    name: str | None
    tier: str
    role: str
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


class KeyBody(Body):
    """A new API key."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "nightly batch", "scopes": ["generate"]}]}
    )

    name: str = Field(min_length=1, max_length=100)
    scopes: list[keys.KeyScope] = Field(list(keys.DEFAULT_SCOPES), min_length=1, max_length=8)


class KeyReply(Reply):
    """An API key, without the key."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None


class NewKeyReply(KeyReply):
    """An API key as it is shown once. A repeated `Idempotency-Key` shows null: the key is not stored."""

    key: str | None


@bp.post("/auth/register")
@endpoint(body=RegisterBody, reply=SignInReply, status=201, errors=(EmailTaken,), public=True)
def sign_up(body: RegisterBody) -> SignInReply:
    """Open an account and sign in."""
    with db.transaction() as session:
        user = register(body.email, body.password.get_secret_value(), body.name)
        signed_in = tokens.sign_in(session, user)
    return _with_session(signed_in)


@bp.post("/auth/login")
@endpoint(
    body=LoginBody, reply=SignInReply, errors=(InvalidCredentials, Forbidden), public=True, limit="sign-in"
)
def login(body: LoginBody) -> SignInReply:
    """Sign in; sets the session cookie as well."""
    user = users.authenticate(body.email, body.password.get_secret_value())
    with db.transaction() as session:
        signed_in = tokens.sign_in(session, user)
    return _with_session(signed_in)


@bp.post("/auth/refresh")
@endpoint(body=RefreshBody, reply=TokensReply, errors=(Unauthorized, Forbidden), public=True)
def refresh(body: RefreshBody) -> TokensReply:
    """Exchange a refresh token for new tokens.

    Each works once; using one again ends the whole sign-in.
    """
    signed_in = tokens.refresh(body.refresh_token)
    return _tokens(signed_in)


@bp.post("/auth/logout")
@endpoint(body=LogoutBody, status=204, errors=(Forbidden,), public=True)
def logout(body: LogoutBody) -> None:
    """End the sign-in: its refresh tokens, access tokens and session cookie."""
    principal = auth.peek()
    if principal and principal.via == "session":
        auth.check_csrf()
    with db.transaction() as session:
        if body.refresh_token is not None:
            tokens.end(session, body.refresh_token)
        if principal and principal.sign_in:
            tokens.end_family(session, principal.sign_in)
    auth.end_session()


@bp.get("/auth/me")
@endpoint(reply=UserReply)
def me() -> UserReply:
    """Show who is signed in."""
    with db.transaction() as session:
        return UserReply.model_validate(users.get(session, auth.current().id))


@bp.get("/api-keys")
@endpoint(query=PageQuery, reply=Page[KeyReply])
def list_keys(query: PageQuery) -> Answer:
    """List the API keys that work; never the keys themselves."""
    mine = select(ApiKey).where(ApiKey.user_id == auth.current().id, ApiKey.revoked_at.is_(None))
    with db.transaction() as session:
        by = (ApiKey.created_at, ApiKey.id)
        return paginate(session, mine, query, by=by, item=KeyReply.model_validate)


@bp.post("/api-keys")
@endpoint(body=KeyBody, reply=NewKeyReply, status=201, scope="account", idempotent=True)
def create_key(body: KeyBody) -> Answer:
    """Make an API key; it is shown in this answer only."""
    with db.transaction() as session:
        row, key = keys.create(session, auth.current().id, body.name, body.scopes)
    shown = KeyReply.model_validate(row).model_dump()
    return Answer(NewKeyReply(**shown, key=key), replay=NewKeyReply(**shown, key=None))


@bp.delete("/api-keys/<key_id>")
@endpoint(status=204, scope="account")
def delete_key(key_id: str) -> None:
    """Make an API key useless."""
    with db.transaction() as session:
        keys.revoke(session, auth.current().id, ids.parse(key_id))


def _with_session(signed_in: tokens.SignIn) -> SignInReply:
    csrf_token = auth.start_session(principals.of(signed_in))
    return SignInReply(**dict(_tokens(signed_in)), csrf_token=csrf_token)


def _tokens(signed_in: tokens.SignIn) -> TokensReply:
    return TokensReply(
        access_token=signed_in.access_token,
        refresh_token=signed_in.refresh_token,
        expires_in=signed_in.expires_in,
        user=UserReply.model_validate(signed_in.user),
    )
