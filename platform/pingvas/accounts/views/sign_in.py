"""Routes: open an account, sign in, stay signed in, sign out."""

from typing import Literal

from flask import request
from pydantic import ConfigDict, Field, SecretStr

from pingvas import db
from pingvas.accounts import login, one_time, tokens, users
from pingvas.accounts.models import LANGUAGES
from pingvas.accounts.register import MAX_EMAIL, MAX_NAME, MAX_PASSWORD, MIN_PASSWORD, register
from pingvas.accounts.second_factor import Proof
from pingvas.accounts.views.blueprint import (
    SignInReply,
    TokensReply,
    UserReply,
    bp,
    origin,
    tokens_reply,
    with_session,
)
from pingvas.errors import (
    EmailTaken,
    Forbidden,
    InvalidCredentials,
    SecondFactorInvalid,
    SecondFactorRequired,
    Unauthorized,
)
from pingvas.web import auth, limits
from pingvas.web.api import Body, endpoint

MAX_CODE = 64


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
    language: Literal["en", "ko"] | None = Field(
        None, description="Of mails; without it, what `Accept-Language` prefers."
    )


class LoginBody(Body):
    """Credentials; `totp` or `recovery_code` where the account has a second factor."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ada@example.com", "password": "correct horse battery"}]}
    )

    email: str = Field(max_length=1_024)
    password: SecretStr = Field(max_length=1_024)
    totp: SecretStr | None = Field(None, max_length=MAX_CODE, description="Six digits of the app.")
    recovery_code: SecretStr | None = Field(None, max_length=MAX_CODE)


class RefreshBody(Body):
    """The refresh token, which this use ends."""

    refresh_token: str = Field(max_length=256)


class LogoutBody(Body):
    """The refresh token of the sign-in to end; without one, that of the access token or cookie is ended."""

    refresh_token: str | None = Field(None, max_length=256)


@bp.post("/auth/register")
@endpoint(body=RegisterBody, reply=SignInReply, status=201, errors=(EmailTaken,), public=True)
def sign_up(body: RegisterBody) -> SignInReply:
    """Open an account and sign in; a mail asks to verify the address."""
    language = body.language or preferred_language()
    user = register(body.email, body.password.get_secret_value(), body.name, language=language)
    with db.transaction() as session:
        one_time.request(session, "verify-email", user.email, user.language, user)
        signed_in = tokens.sign_in(session, user, origin=origin())
    return with_session(signed_in)


@bp.post("/auth/login")
@endpoint(
    body=LoginBody,
    reply=SignInReply,
    errors=(InvalidCredentials, Forbidden, SecondFactorRequired, SecondFactorInvalid),
    public=True,
    limit="sign-in",
)
def log_in(body: LoginBody) -> SignInReply:
    """Sign in; sets the session cookie as well."""
    proof = proof_of(body.totp, body.recovery_code)
    try:
        user, proved = login.authenticate(
            body.email, body.password.get_secret_value(), proof, address=limits.caller()
        )
    except SecondFactorRequired:
        if proof is None:  # the password was right: it is half a sign-in, and no guess
            limits.forgive()
        raise
    with db.transaction() as session:
        signed_in = tokens.sign_in(session, user, second_factor=proved, origin=origin())
    return with_session(signed_in)


@bp.post("/auth/refresh")
@endpoint(body=RefreshBody, reply=TokensReply, errors=(Unauthorized, Forbidden), public=True)
def refresh(body: RefreshBody) -> TokensReply:
    """Exchange a refresh token for new tokens.

    Each works once; using one again ends the whole sign-in.
    """
    return tokens_reply(tokens.refresh(body.refresh_token))


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


def preferred_language() -> str:
    """Return the language of mails that the client prefers."""
    return request.accept_languages.best_match(LANGUAGES) or "en"


def proof_of(totp: SecretStr | None, recovery_code: SecretStr | None) -> Proof | None:
    """Return the second factor that a body gives, if it gives one."""
    if totp is None and recovery_code is None:
        return None
    return Proof(
        totp.get_secret_value() if totp else None, recovery_code.get_secret_value() if recovery_code else None
    )
