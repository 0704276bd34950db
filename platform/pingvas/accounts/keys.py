"""API keys: made once, shown once, kept as a hash."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Literal, cast
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from pingvas import clock
from pingvas.accounts import tokens
from pingvas.accounts.models import ApiKey
from pingvas.errors import Invalid, NotFound

MARK = "pv_"
KeyScope = Literal["generate", "read", "write", "billing", "admin"]
DEFAULT_SCOPES: tuple[KeyScope, ...] = ("generate", "read")
_SHOWN = len(MARK) + 8
MAX_GRACE = timedelta(days=7)


def create(
    session: Session,
    user_id: UUID,
    name: str,
    scopes: Iterable[KeyScope] = DEFAULT_SCOPES,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key; return its row and the key itself, which nothing can show again.

    Raises:
        Invalid: `expires_at` has passed.
    """
    if expires_at is not None and expires_at <= clock.now():
        raise Invalid.at("expires_at", "must be in the future")
    key = MARK + secrets.token_urlsafe(32)
    row = ApiKey(
        user_id=user_id,
        name=name,
        prefix=key[:_SHOWN],
        key_hash=digest(key),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row, key


def find(session: Session, user_id: UUID, key_id: UUID) -> ApiKey:
    """Return a user's key that works, locked.

    Raises:
        NotFound: the user has no such key.
    """
    mine = select(ApiKey).where(ApiKey.id == key_id, *working(user_id))
    row = session.scalar(mine.with_for_update())
    if row is None:
        raise NotFound("There is no such API key")
    return row


def working(user_id: UUID) -> tuple[Any, ...]:
    """Return the conditions of a user's keys that work."""
    unexpired = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > clock.now())
    return ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None), unexpired


def rotate(session: Session, old: ApiKey, grace: timedelta) -> tuple[ApiKey, str]:
    """Make a key that takes the place of `old`, which works on for `grace` (zero: it ends now)."""
    row, key = create(session, old.user_id, old.name, cast(list[KeyScope], old.scopes), old.expires_at)
    end = clock.now() + grace
    if not grace:
        old.revoked_at = end
        tokens.shut_out(old.user_id)
    elif old.expires_at is None or end < old.expires_at:
        old.expires_at = end
    return row, key


def revoke(session: Session, user_id: UUID, key_id: UUID) -> None:
    """Make a key useless.

    Raises:
        NotFound: the user has no such key.
    """
    mine = (ApiKey.id == key_id, ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    revoked = update(ApiKey).where(*mine).values(revoked_at=clock.now()).returning(ApiKey.id)
    if session.scalar(revoked) is None:
        raise NotFound("There is no such API key")
    tokens.shut_out(user_id)


def digest(key: str) -> bytes:
    """Return what is stored of a key (SHA-256; the key is 256 random bits)."""
    return hashlib.sha256(key.encode()).digest()
