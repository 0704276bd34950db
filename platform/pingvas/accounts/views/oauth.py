"""Routes: sign in through another provider."""

from typing import Final
from urllib.parse import urlencode

from flask import Response, session, url_for
from pydantic import ConfigDict, Field

from pingvas import db, settings
from pingvas.accounts import oauth, second_factor, tokens
from pingvas.accounts.views.blueprint import SignInReply, bp, origin, with_session
from pingvas.accounts.views.sign_in import preferred_language
from pingvas.errors import (
    Conflict,
    EmailNotVerified,
    EmailTaken,
    Forbidden,
    PingvasError,
    ProviderRefused,
    SecondFactorRequired,
)
from pingvas.web.api import Query, endpoint

_NEXT: Final = "oauth_next"


class LoginQuery(Query):
    """Where the browser goes in the end: a path on this host, where the session cookie counts."""

    next: str | None = Field(  # neither `//host` nor `/\\host`, and no fragment
        None,
        max_length=500,
        pattern=r"^/([!\"$-.0-\[\]-~][!\"$-\[\]-~]*)?$",
        description="A path of this host to end at, instead of a JSON answer; what went wrong comes in its "
        "fragment: `#code=…`, and `&challenge=…` where a second factor is asked for.",
    )


class CallbackQuery(Query):
    """What a provider sends the browser back with; some add parameters of their own."""

    model_config = ConfigDict(extra="ignore")

    code: str | None = None
    state: str | None = None
    error: str | None = None


@bp.get("/oauth/<provider>/login")
@endpoint(query=LoginQuery, status=302, public=True)
def begin_oauth(provider: str, query: LoginQuery) -> Response:
    """Send the browser to a provider (`google`, `discord`) to sign in there."""
    response = oauth.begin(provider, _callback(provider))
    session.pop(_NEXT, None)
    if query.next is not None:
        session[_NEXT] = query.next  # signed, and of this browser, as the state is
    return response


@bp.get("/oauth/<provider>/callback")
@endpoint(
    query=CallbackQuery,
    reply=SignInReply,
    errors=(ProviderRefused, EmailNotVerified, EmailTaken, Conflict, Forbidden, SecondFactorRequired),
    also={302: "The sign-in began with `next`: the browser is sent there, with the session cookie"},
    public=True,
)
def finish_oauth(provider: str, query: CallbackQuery) -> SignInReply | Response:
    """Sign in with what the provider says; a first sign-in opens an account.

    Where the account has a second factor, the answer is `SECOND_FACTOR_REQUIRED` with a `challenge`, which
    goes with the code to `POST /auth/login/second-factor`.
    """
    wanted = session.pop(_NEXT, None)
    if not isinstance(wanted, str):
        return _finish(provider)
    try:
        _finish(provider)
    except PingvasError as error:
        told = {"code": error.code} | {name: error.extra[name] for name in {"challenge"} & set(error.extra)}
        return _to(f"{wanted}#{urlencode(told)}")
    return _to(wanted)


def _finish(provider: str) -> SignInReply:
    user = oauth.account_of(oauth.finish(provider), preferred_language())
    if second_factor.is_enabled(user.id):
        raise SecondFactorRequired(
            "Finish with POST /api/v1/auth/login/second-factor", challenge=tokens.challenge(user.id)
        )
    with db.transaction() as unit:
        signed_in = tokens.sign_in(unit, user, origin=origin())
    return with_session(signed_in)


def _to(place: str) -> Response:
    response = Response(status=302, headers={"Location": place, "Cache-Control": "no-store"})
    del response.headers["Content-Type"]
    return response


def _callback(provider: str) -> str:
    """Return the address that is registered at the provider: of the settings, not of a header that lies."""
    base = settings.get().public_url.rstrip("/")
    if base:
        return base + url_for("accounts.finish_oauth", provider=provider)
    return url_for("accounts.finish_oauth", provider=provider, _external=True)
