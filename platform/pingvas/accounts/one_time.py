"""Tokens that a mail proves an address with: kept as hashes, good for a while, good once.

A token is made as its mail goes out (`mail.PREPARE`), so no row holds it, neither here nor in the outbox. It
also makes a request for an unknown address the same work as any other: one row, which then comes to nothing.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from pingvas import clock, mail
from pingvas.accounts import doors
from pingvas.accounts.models import OneTimeToken, User
from pingvas.errors import InvalidToken
from pingvas.mail.delivery import Prepared
from pingvas.mail.models import Mail

Purpose = Literal["verify-email", "change-email", "reset-password"]

HOURS: Final = 24
MINUTES: Final = 60
_LIVES: Final[dict[Purpose, timedelta]] = {
    "verify-email": timedelta(hours=HOURS),
    "change-email": timedelta(hours=HOURS),
    "reset-password": timedelta(minutes=MINUTES),
}
_APART: Final[dict[Purpose, int]] = {"verify-email": 60, "change-email": 60, "reset-password": 300}
"""Seconds in which an address gets one mail of a kind: nobody's inbox is filled by somebody else."""


def request(session: Session, purpose: Purpose, email: str, language: str, user: User | None = None) -> None:
    """Have a token mailed to an address; to that of no account, nothing is sent in the end."""
    address = hashlib.sha256(email.encode()).hexdigest()[:32]
    bucket = int(clock.now().timestamp()) // _APART[purpose]
    key = f"{purpose}:{address}:{bucket}"
    user_id = user.id if user else None
    mail.send(session, purpose, to=email, language=language, user_id=user_id, key=key)


def find(session: Session, token: str, *purposes: Purpose) -> OneTimeToken:
    """Return a token that would work, without using it.

    Raises:
        InvalidToken: it is unknown, of another purpose, used or expired.
    """
    doors.by_one_time_token(session, _digest(token))
    row = session.scalar(select(OneTimeToken).where(*_good(token, purposes)))
    if row is None:
        raise InvalidToken
    return row


def redeem(session: Session, token: str, *purposes: Purpose) -> OneTimeToken:
    """Use a token; every other one of its owner and purpose ends with it.

    Raises:
        InvalidToken: it is unknown, of another purpose, used or expired.
    """
    doors.by_one_time_token(session, _digest(token))
    used = update(OneTimeToken).where(*_good(token, purposes)).values(used_at=clock.now())
    row = session.scalar(used.returning(OneTimeToken).execution_options(populate_existing=True))
    if row is None:
        raise InvalidToken
    theirs = (OneTimeToken.user_id == row.user_id, OneTimeToken.purpose == row.purpose)
    session.execute(
        update(OneTimeToken).where(*theirs, OneTimeToken.used_at.is_(None)).values(used_at=clock.now())
    )
    return row


def end_all(session: Session, user: User) -> None:
    """Make every token of a user useless: what they were made for has changed."""
    theirs = (OneTimeToken.user_id == user.id, OneTimeToken.used_at.is_(None))
    session.execute(update(OneTimeToken).where(*theirs).values(used_at=clock.now()))


def _good(token: str, purposes: tuple[Purpose, ...]) -> tuple[Any, ...]:
    return (
        OneTimeToken.token_hash == _digest(token),
        OneTimeToken.purpose.in_(purposes),
        OneTimeToken.used_at.is_(None),
        OneTimeToken.expires_at > clock.now(),
    )


def _make(session: Session, user: User, purpose: Purpose, email: str) -> str:
    token = secrets.token_urlsafe(32)
    expires = clock.now() + _LIVES[purpose]
    row = OneTimeToken(
        user_id=user.id, purpose=purpose, token_hash=_digest(token), email=email, expires_at=expires
    )
    session.add(row)
    return token


def _verify_email(session: Session, row: Mail) -> Mapping[str, object] | None:
    user = session.get(User, row.user_id)
    if user is None or user.email != row.recipient or user.email_verified_at is not None:
        return None
    return {"token": _make(session, user, "verify-email", user.email), "hours": HOURS}


def _change_email(session: Session, row: Mail) -> Mapping[str, object] | None:
    user = session.get(User, row.user_id)
    if user is None or session.scalar(select(exists().where(User.email == row.recipient))):
        return None
    return {"token": _make(session, user, "change-email", row.recipient), "hours": HOURS}


def _reset_password(session: Session, row: Mail) -> Mapping[str, object] | None:
    user = session.scalar(select(User).where(User.email == row.recipient))
    if user is None or user.suspended_at is not None:
        return None
    return {"token": _make(session, user, "reset-password", user.email), "minutes": MINUTES}


MAILS: Final = {
    "verify-email": Prepared(frozenset({"token", "hours"}), _verify_email),
    "change-email": Prepared(frozenset({"token", "hours"}), _change_email),
    "reset-password": Prepared(frozenset({"token", "minutes"}), _reset_password),
}


def _digest(token: str) -> bytes:
    # No salt and no slow hash: the token is 256 random bits.
    return hashlib.sha256(token.encode()).digest()
