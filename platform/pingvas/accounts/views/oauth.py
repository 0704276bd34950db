"""Routes: sign in through another provider."""

from flask import Response, url_for
from pydantic import ConfigDict

from pingvas import db, settings
from pingvas.accounts import oauth, second_factor, tokens
from pingvas.accounts.views.blueprint import SignInReply, bp, origin, with_session
from pingvas.accounts.views.sign_in import preferred_language
from pingvas.errors import (
    Conflict,
    EmailNotVerified,
    EmailTaken,
    Forbidden,
    ProviderRefused,
    SecondFactorRequired,
)
from pingvas.web.api import Query, endpoint


class CallbackQuery(Query):
    """What a provider sends the browser back with; some add parameters of their own."""

    model_config = ConfigDict(extra="ignore")

    code: str | None = None
    state: str | None = None
    error: str | None = None


@bp.get("/oauth/<provider>/login")
@endpoint(status=302, public=True)
def begin_oauth(provider: str) -> Response:
    """Send the browser to a provider (`google`, `discord`) to sign in there."""
    return oauth.begin(provider, _callback(provider))


@bp.get("/oauth/<provider>/callback")
@endpoint(
    query=CallbackQuery,
    reply=SignInReply,
    errors=(ProviderRefused, EmailNotVerified, EmailTaken, Conflict, Forbidden, SecondFactorRequired),
    public=True,
)
def finish_oauth(provider: str, query: CallbackQuery) -> SignInReply:
    """Sign in with what the provider says; a first sign-in opens an account.

    Where the account has a second factor, the answer is `SECOND_FACTOR_REQUIRED` with a `challenge`, which
    goes with the code to `POST /auth/login/second-factor`.
    """
    user = oauth.account_of(oauth.finish(provider), preferred_language())
    if second_factor.is_enabled(user.id):
        raise SecondFactorRequired(
            "Finish with POST /api/v1/auth/login/second-factor", challenge=tokens.challenge(user.id)
        )
    with db.transaction() as session:
        signed_in = tokens.sign_in(session, user, origin=origin())
    return with_session(signed_in)


def _callback(provider: str) -> str:
    """Return the address that is registered at the provider: of the settings, not of a header that lies."""
    base = settings.get().public_url.rstrip("/")
    if base:
        return base + url_for("accounts.finish_oauth", provider=provider)
    return url_for("accounts.finish_oauth", provider=provider, _external=True)
