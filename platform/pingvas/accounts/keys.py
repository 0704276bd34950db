"""API keys: made once, shown once, kept as a hash."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from pingvas import clock, db
from pingvas.accounts.models import ApiKey
from pingvas.errors import NotFound

MARK = "pv_"
KeyScope = Literal["generate", "read", "write"]
DEFAULT_SCOPES: tuple[KeyScope, ...] = ("generate", "read")
_SHOWN = len(MARK) + 8
_USE_NOTED_EVERY = timedelta(minutes=1)


def create(
    session: Session, user_id: UUID, name: str, scopes: Iterable[KeyScope] = DEFAULT_SCOPES
) -> tuple[ApiKey, str]:
    """Make a key; return its row and the key itself, which nothing can show again."""
    key = MARK + secrets.token_urlsafe(32)
    row = ApiKey(
        user_id=user_id, name=name, prefix=key[:_SHOWN], key_hash=digest(key), scopes=sorted(set(scopes))
    )
    session.add(row)
    session.flush()
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


def note_use(key_id: UUID, last_used_at: datetime | None) -> None:
    """Remember that a key was used, at most once a minute: a write for each request would make a hot row."""
    now = clock.now()
    if last_used_at is None or last_used_at < now - _USE_NOTED_EVERY:
        with db.transaction() as session:
            session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now))


def digest(key: str) -> bytes:
    """Return what is stored of a key (SHA-256; the key is 256 random bits)."""
    return hashlib.sha256(key.encode()).digest()
