"""Signed-in people: short-lived access tokens (JWT) and rotating refresh tokens.

A sign-in (a row of `sign_ins`) is a *family* of refresh tokens. Using one makes the next.
One used twice was copied, and as nobody can tell the thief from the owner, the whole family ends
(RFC 9700, section 4.14.2).
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

import jwt
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from pingvas import clock, db, events, ids, secret_keys, settings
from pingvas.accounts import doors
from pingvas.accounts.models import RefreshToken, SignInRow, User
from pingvas.errors import Forbidden, Unauthorized

_ALGORITHM = "HS256"
_ACCESS, _CHALLENGE = "access", "challenge"
_CLAIMS = ["sub", "exp", "iat", "jti", "typ"]
_CHALLENGE_SECONDS = 300


@dataclass(frozen=True)
class SignIn:
    """A user and the tokens of one sign-in."""

    user: User
    family_id: UUID
    access_token: str
    refresh_token: str
    expires_in: int
    second_factor: bool


@dataclass(frozen=True)
class Claims:
    """What an access token says."""

    user_id: UUID
    family_id: UUID


@dataclass(frozen=True)
class Origin:
    """Where a sign-in comes from, for its owner to recognise it."""

    address: str | None = None
    user_agent: str | None = None


def sign_in(
    session: Session, user: User, *, second_factor: bool = False, origin: Origin | None = None
) -> SignIn:
    """Start a family for `user`; with `second_factor`, it has just been proved.

    Raises:
        Forbidden: the account is suspended.
    """
    now, whence = clock.now(), origin or Origin()
    row = SignInRow(
        id=ids.new(),
        user_id=user.id,
        created_at=now,
        expires_at=_expiry(),
        second_factor_at=now if second_factor else None,
        stepped_up_at=now if second_factor else None,
        address=whence.address,
        user_agent=whence.user_agent,
    )
    session.add(row)
    session.flush()
    return _next(session, user, row)


def refresh(token: str) -> SignIn:
    """Exchange a refresh token for new tokens.

    Raises:
        Unauthorized: unknown, expired, of an ended family, or used before; the last also ends its family.
        Forbidden: the account is suspended.
    """
    with db.transaction() as session:
        doors.by_refresh_token(session, _digest(token))
        found = select(RefreshToken).where(RefreshToken.token_hash == _digest(token)).with_for_update()
        row = session.scalar(found)
        family = session.get_one(SignInRow, row.family_id) if row else None
        if row is None or family is None or family.ended_at is not None or row.expires_at <= clock.now():
            raise Unauthorized("The refresh token is not valid or has expired")
        if row.used_at is None:
            row.used_at = clock.now()
            return _next(session, session.get_one(User, row.user_id), family)
        end_family(session, row.family_id)
    # After the commit: raised inside, it would undo the revocation.
    raise Unauthorized("The refresh token was used before; sign in again")


def end(session: Session, token: str) -> None:
    """End the family of a refresh token; an unknown one changes nothing."""
    doors.by_refresh_token(session, _digest(token))
    family = session.scalar(select(RefreshToken.family_id).where(RefreshToken.token_hash == _digest(token)))
    if family is not None:
        end_family(session, family)


def end_family(session: Session, family_id: UUID) -> None:
    """End a sign-in: its refresh tokens, access tokens and session cookie are refused from now on."""
    this = (SignInRow.id == family_id, SignInRow.ended_at.is_(None))
    ended = update(SignInRow).where(*this).values(ended_at=clock.now()).returning(SignInRow.user_id)
    user_id = session.scalar(ended)
    if user_id is not None:
        shut_out(user_id)


def end_all(session: Session, user_id: UUID, *, but: UUID | None = None) -> None:
    """End every sign-in of a user, save `but`."""
    theirs = [SignInRow.user_id == user_id, SignInRow.ended_at.is_(None)]
    if but is not None:
        theirs.append(SignInRow.id != but)
    session.execute(update(SignInRow).where(*theirs).values(ended_at=clock.now()))
    shut_out(user_id)


def shut_out(user_id: UUID) -> None:
    """After the commit, end the streams of those whom a user's credentials no longer let in."""
    db.after_commit(partial(events.knock, user_id))


def read(token: str) -> Claims | None:
    """Return what an access token says, or None if it is none of ours or has expired."""
    claims = _claims(token, _ACCESS)
    return Claims(UUID(claims["sub"]), UUID(claims["sid"])) if claims else None


def challenge(user_id: UUID) -> str:
    """Return a token for somebody who has proved all but the second factor; good for five minutes."""
    return _encode(_CHALLENGE, _CHALLENGE_SECONDS, sub=str(user_id))


def read_challenge(token: str) -> UUID:
    """Return whose sign-in waits for the second factor.

    Raises:
        Unauthorized: the challenge is none of ours or has expired.
    """
    claims = _claims(token, _CHALLENGE)
    if claims is None:
        raise Unauthorized("The challenge is not valid or has expired; sign in again")
    return UUID(claims["sub"])


def _claims(token: str, kind: str) -> Mapping[str, Any] | None:
    claims = next(filter(None, (_decode(token, key) for key in secret_keys.accepted())), None)
    if claims is None or claims["typ"] != kind or claims["exp"] <= clock.now().timestamp():
        return None
    return claims


@lru_cache(maxsize=4_096)  # a client sends the same token for minutes; its expiry is looked at each time
def _decode(token: str, key: str) -> Mapping[str, Any] | None:
    options: Any = {"require": _CLAIMS, "verify_exp": False, "verify_iat": False}
    try:
        # The algorithm is pinned: the header's own choice is the attacker's.
        return jwt.decode(token, key, algorithms=[_ALGORITHM], options=options)
    except jwt.InvalidTokenError:
        return None


def _next(session: Session, user: User, family: SignInRow) -> SignIn:
    if user.suspended_at is not None:
        raise Forbidden("This account is suspended")
    token = secrets.token_urlsafe(32)
    family.last_used_at, family.expires_at = clock.now(), _expiry()
    hashed = _digest(token)
    session.add(
        RefreshToken(user_id=user.id, family_id=family.id, token_hash=hashed, expires_at=family.expires_at)
    )
    seconds = settings.get().access_token_seconds
    return SignIn(
        user, family.id, access(user.id, family.id), token, seconds, family.second_factor_at is not None
    )


def access(user_id: UUID, family_id: UUID) -> str:
    """Return an access token of a sign-in."""
    return _encode(_ACCESS, settings.get().access_token_seconds, sub=str(user_id), sid=str(family_id))


def _expiry() -> datetime:
    return clock.now() + timedelta(seconds=settings.get().refresh_token_seconds)


def _encode(kind: str, seconds: int, **claims: str) -> str:
    now = int(clock.now().timestamp())
    jti = secrets.token_urlsafe(12)
    return jwt.encode(
        {**claims, "iat": now, "exp": now + seconds, "jti": jti, "typ": kind},
        secret_keys.current(),
        algorithm=_ALGORITHM,
    )


def _digest(token: str) -> bytes:
    # No salt and no slow hash: the token is 256 random bits.
    return hashlib.sha256(token.encode()).digest()
