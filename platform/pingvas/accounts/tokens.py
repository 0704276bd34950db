"""Signed-in people: short-lived access tokens (JWT) and rotating refresh tokens.

A sign-in is a *family* of refresh tokens. Using one makes the next. One used twice was copied, and as
nobody can tell the thief from the owner, the whole family ends (RFC 9700, section 4.14.2).
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import jwt
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from pingvas import clock, db, ids, settings
from pingvas.accounts.models import RefreshToken, User
from pingvas.errors import Forbidden, Unauthorized

_ALGORITHM = "HS256"
_TYPE = "access"
_CLAIMS = ["sub", "sid", "exp", "iat", "jti"]


@dataclass(frozen=True)
class SignIn:
    """A user and the tokens of one sign-in."""

    user: User
    family_id: UUID
    access_token: str
    refresh_token: str
    expires_in: int


@dataclass(frozen=True)
class Claims:
    """What an access token says."""

    user_id: UUID
    family_id: UUID


def sign_in(session: Session, user: User) -> SignIn:
    """Start a family for `user`.

    Raises:
        Forbidden: the account is suspended.
    """
    return _next(session, user, ids.new())


def refresh(token: str) -> SignIn:
    """Exchange a refresh token for new tokens.

    Raises:
        Unauthorized: unknown, expired, of an ended family, or used before; the last also ends its family.
        Forbidden: the account is suspended.
    """
    with db.transaction() as session:
        found = select(RefreshToken).where(RefreshToken.token_hash == _digest(token)).with_for_update()
        row = session.scalar(found)
        if row is None or row.revoked_at is not None or row.expires_at <= clock.now():
            raise Unauthorized("The refresh token is not valid or has expired")
        if row.used_at is None:
            row.used_at = clock.now()
            return _next(session, session.get_one(User, row.user_id), row.family_id)
        end_family(session, row.family_id)
    # After the commit: raised inside, it would undo the revocation.
    raise Unauthorized("The refresh token was used before; sign in again")


def end(session: Session, token: str) -> None:
    """End the family of a refresh token; an unknown one changes nothing."""
    family = session.scalar(select(RefreshToken.family_id).where(RefreshToken.token_hash == _digest(token)))
    if family is not None:
        end_family(session, family)


def end_family(session: Session, family_id: UUID) -> None:
    """End a sign-in: its refresh tokens, access tokens and session cookie are refused from now on."""
    open_ones = (RefreshToken.family_id == family_id, RefreshToken.revoked_at.is_(None))
    session.execute(update(RefreshToken).where(*open_ones).values(revoked_at=clock.now()))


def read(token: str) -> Claims | None:
    """Return what an access token says, or None if it is none of ours or has expired."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            _secret(),
            algorithms=[_ALGORITHM],  # pinned: the header's own choice is the attacker's
            options={
                "require": _CLAIMS,
                "verify_exp": False,
                "verify_iat": False,
            },
        )
    except jwt.InvalidTokenError:
        return None
    if claims.get("typ") != _TYPE or claims["exp"] <= clock.now().timestamp():
        return None
    return Claims(UUID(claims["sub"]), UUID(claims["sid"]))


def _next(session: Session, user: User, family_id: UUID) -> SignIn:
    if user.suspended_at is not None:
        raise Forbidden("This account is suspended")
    config = settings.get()
    token = secrets.token_urlsafe(32)
    expires = clock.now() + timedelta(seconds=config.refresh_token_seconds)
    session.add(
        RefreshToken(user_id=user.id, family_id=family_id, token_hash=_digest(token), expires_at=expires)
    )
    access = _access_token(user.id, family_id, config.access_token_seconds)
    return SignIn(user, family_id, access, token, config.access_token_seconds)


def _access_token(user_id: UUID, family_id: UUID, seconds: int) -> str:
    now = int(clock.now().timestamp())
    claims = {
        "sub": str(user_id),
        "sid": str(family_id),
        "iat": now,
        "exp": now + seconds,
        "jti": secrets.token_urlsafe(12),
        "typ": _TYPE,
    }
    return jwt.encode(claims, _secret(), algorithm=_ALGORITHM)


def _secret() -> str:
    return settings.get().secret_key.get_secret_value()


def _digest(token: str) -> bytes:
    # No salt and no slow hash: the token is 256 random bits.
    return hashlib.sha256(token.encode()).digest()
