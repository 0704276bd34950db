"""Who is asking: a bearer token, an API key or a session cookie, all seen by views as one `Principal`.

This module knows no table. `accounts` hands it the functions that turn a bearer text or a session
into a principal.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from flask import Flask, Request, Response, after_this_request, current_app, g, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_login import LoginManager, login_user, logout_user  # type: ignore[import-untyped]

from pingvas import db, secret_keys, settings
from pingvas.errors import Forbidden, SecondFactorRequired, StepUpRequired, Unauthorized

Scope = Literal["read", "generate", "write", "billing", "admin", "account"]
ALL_SCOPES: frozenset[Scope] = frozenset({"read", "generate", "write", "billing", "admin", "account"})
KEY_SCOPES: frozenset[Scope] = ALL_SCOPES - {"account"}
"""What an API key may be given: a leaked key must not be able to make further keys."""

CSRF_COOKIE = "csrf_token"
CSRF_HEADER = "X-CSRF-Token"
CALLER = "pingvas.caller"
"""In the ASGI scope of a request, who it turned out to come from: the front follows jobs for them."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_TRUSTED = frozenset({"admin", "operator"})


@dataclass(frozen=True)
class Principal:
    """The account that a request acts for; `sign_in` names the sign-in (token family) it came from.

    `second_factor`: the sign-in has proved it; a key with the scope `admin` was made by one that had.
    `stepped_up`: the sign-in has proved it again within the last ten minutes, which a key never can.
    """

    id: UUID
    email: str
    tier: str
    role: str
    via: Literal["token", "key", "session"]
    scopes: frozenset[Scope] = ALL_SCOPES
    sign_in: UUID | None = None
    second_factor: bool = False
    stepped_up: bool = False


BearerLoader = Callable[[str], Principal | None]
"""Reads the text after `Bearer`; None: not of my kind, or not good."""
SessionLoader = Callable[[str], Principal | None]
"""Reads what `start_session` stored; None: that sign-in has ended."""


@dataclass(frozen=True)
class _SessionUser:
    """What flask-login handles."""

    principal: Principal
    is_authenticated = True
    is_active = True
    is_anonymous = False

    def get_id(self) -> str:
        return f"{self.principal.id}/{self.principal.sign_in}"


def init_app(app: Flask, *, bearer: Sequence[BearerLoader], by_session: SessionLoader) -> None:
    """Set up sessions and the loaders on `app`.

    Raises:
        SettingsError: the secret key is missing.
    """
    config = settings.get()
    secret, *previous = secret_keys.accepted()
    if not secret:
        name = settings.variable("secret_key")
        raise settings.SettingsError(f"{name}: {settings.MIN_SECRET} random characters or more are needed")
    app.config.update(
        SECRET_KEY=secret,
        SECRET_KEY_FALLBACKS=previous,
        SESSION_COOKIE_NAME="pingvas_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(seconds=config.refresh_token_seconds),
    )
    app.session_interface = _Sessions()
    app.before_request(lambda: db.act_for(None))  # whoever this thread worked for before
    manager = LoginManager(app)
    # Its guard compares addresses and browsers, which change behind proxies; and its remember-me hook
    # reads the session of every request, which would put `Vary: Cookie` on all answers.
    manager.session_protection = None
    app.after_request_funcs[None].remove(manager._update_remember_cookie)

    def load_session(stored: str) -> _SessionUser | None:
        principal = by_session(stored)
        return _SessionUser(principal) if principal else None

    def load_header(incoming: Request) -> _SessionUser | None:
        principal = _from_header(incoming.headers.get("Authorization", ""), bearer)
        return _SessionUser(principal) if principal else None

    manager.user_loader(load_session)
    manager.request_loader(load_header)
    app.extensions["pingvas_auth"] = (load_header, load_session)


def current() -> Principal:
    """Return who is asking.

    Raises:
        Unauthorized: nobody, or the credentials are not good. A header wins over a cookie, even a bad one.
    """
    principal = peek()
    if principal is None:
        raise Unauthorized("The credentials are not valid or have expired" if _has_header() else "")
    return principal


def peek() -> Principal | None:
    """Return who is asking, or None."""
    if "principal" not in g:
        g.principal = _load()
        if g.principal is not None:
            db.act_for(g.principal.id)
            request.environ.get("asgi.scope", {})[CALLER] = str(g.principal.id)
    found: Principal | None = g.principal
    return found


def check(principal: Principal, scope: Scope) -> None:
    """See that the credentials cover `scope`, and that a browser meant to send this.

    Raises:
        Forbidden: the key lacks the scope, or `X-CSRF-Token` is missing or wrong.
    """
    if scope not in principal.scopes:
        raise Forbidden(f"This API key lacks the scope {scope!r}", required_scope=scope)
    if principal.via == "session" and request.method not in _SAFE:
        check_csrf()


def check_role(principal: Principal, *roles: str) -> None:
    """See that the account has one of `roles`, and that admins and operators signed in with a second factor.

    Raises:
        Forbidden: it has none of them, or the key lacks the scope `admin`.
        SecondFactorRequired: the sign-in did not prove a second factor.
    """
    if principal.role not in roles:
        raise Forbidden("Your account's role does not allow this")
    if principal.role in _TRUSTED:
        if "admin" not in principal.scopes:
            raise Forbidden("This API key lacks the scope 'admin'", required_scope="admin")
        if not principal.second_factor:
            raise SecondFactorRequired("Sign in with your second factor; without one, enrol it first")


def check_stepped_up(principal: Principal) -> None:
    """See that the second factor was proved within the last ten minutes (`POST /auth/step-up`).

    Raises:
        StepUpRequired: it was not; an API key cannot.
    """
    if not principal.stepped_up:
        raise StepUpRequired("Prove your second factor again with POST /api/v1/auth/step-up")


def check_csrf() -> None:
    """See that the request repeats the session's CSRF token.

    Raises:
        Forbidden: it does not.
    """
    expected = session.get("csrf", "")
    given = request.headers.get(CSRF_HEADER, "")
    if not expected or not secrets.compare_digest(expected.encode(), given.encode()):
        raise Forbidden(f"With the session cookie, {CSRF_HEADER} must repeat the csrf_token of the sign-in")


def start_session(principal: Principal) -> str:
    """Sign the browser in with a cookie; return the CSRF token, which also goes out as a readable cookie."""
    session.clear()
    session.permanent = True
    session["csrf"] = token = secrets.token_urlsafe(32)
    login_user(_SessionUser(principal))
    _send_csrf_cookie(token)
    return token


def end_session() -> None:
    """Sign the browser out."""
    if session:
        logout_user()
        session.clear()
        _send_csrf_cookie(None)


def _send_csrf_cookie(token: str | None) -> None:
    @after_this_request
    def send(response: Response) -> Response:
        age = settings.get().refresh_token_seconds if token else 0
        response.set_cookie(
            CSRF_COOKIE, token or "", max_age=age, secure=_https(), httponly=False, samesite="Lax"
        )
        return response


def _load() -> Principal | None:
    from_header, from_session = _loaders()
    if _has_header():
        user = from_header(request)
    else:
        stored = session.get("_user_id")
        user = from_session(stored) if isinstance(stored, str) else None
    return user.principal if user else None


def _loaders() -> Any:
    return current_app.extensions["pingvas_auth"]


def _has_header() -> bool:
    return "Authorization" in request.headers


def _from_header(header: str, loaders: Sequence[BearerLoader]) -> Principal | None:
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        return None
    return next((found for load in loaders if (found := load(text.strip()))), None)


def _https() -> bool:
    return request.is_secure or settings.get().public_url.startswith("https:")


class _Sessions(SecureCookieSessionInterface):
    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        # Flask makes a signer before it looks for a cookie to verify, of which most calls have none.
        return (
            super().open_session(app, request) if "HTTP_COOKIE" in request.environ else SecureCookieSession()
        )

    def get_cookie_secure(self, app: Flask) -> bool:
        return _https()
