"""From credentials to a principal: the loaders that `web.auth` calls."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, exists, select

from pingvas import clock, db
from pingvas.accounts import keys, tokens
from pingvas.accounts.models import ApiKey, RefreshToken, User
from pingvas.errors import Forbidden
from pingvas.web.auth import KEY_SCOPES, Principal

_USER = (User.id, User.email, User.tier, User.role, User.suspended_at)


def by_token(text: str) -> Principal | None:
    """Return who an access token stands for, if its sign-in has not ended.

    Raises:
        Forbidden: the account is suspended.
    """
    claims = tokens.read(text)
    return _signed_in(claims.user_id, claims.family_id, "token") if claims else None


def by_session(stored: str) -> Principal | None:
    """Return who a session cookie stands for, if its sign-in has not ended.

    Raises:
        Forbidden: the account is suspended.
    """
    try:
        user_id, family_id = (UUID(part) for part in stored.split("/"))
    except ValueError:  # signed by us, but in another release
        return None
    return _signed_in(user_id, family_id, "session")


def of(signed_in: tokens.SignIn) -> Principal:
    """Return the principal of a sign-in that has just been made in a browser."""
    user = signed_in.user
    return Principal(user.id, user.email, user.tier, user.role, "session", sign_in=signed_in.family_id)


def by_key(text: str) -> Principal | None:
    """Return who an API key stands for, with the key's scopes.

    Raises:
        Forbidden: the account is suspended.
    """
    if not text.startswith(keys.MARK):
        return None
    found = (
        select(*_USER, ApiKey.id.label("key_id"), ApiKey.scopes, ApiKey.last_used_at)
        .join(ApiKey, ApiKey.user_id == User.id)
        .where(ApiKey.key_hash == keys.digest(text), ApiKey.revoked_at.is_(None))
    )
    with db.transaction() as session:
        row = session.execute(found).one_or_none()
        if row is None:
            return None
        keys.note_use(session, row.key_id, row.last_used_at)
    return _principal(row, "key", scopes=KEY_SCOPES & frozenset(row.scopes))


def _signed_in(user_id: UUID, family_id: UUID, via: Any) -> Principal | None:
    with db.transaction() as session:
        row = session.execute(_living(user_id, family_id)).one_or_none()
    return _principal(row, via, sign_in=family_id) if row else None


def _living(user_id: UUID, family_id: UUID) -> Select[*tuple[Any, ...]]:
    family = exists().where(
        RefreshToken.family_id == family_id,
        RefreshToken.user_id == User.id,
        RefreshToken.revoked_at.is_(None),
        RefreshToken.expires_at > clock.now(),
    )
    return select(*_USER).where(User.id == user_id, family)


def _principal(row: Row[*tuple[Any, ...]], via: Any, **more: Any) -> Principal:
    if row.suspended_at is not None:
        raise Forbidden("This account is suspended")
    return Principal(row.id, row.email, row.tier, row.role, via, **more)
