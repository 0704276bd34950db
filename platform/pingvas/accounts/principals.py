"""From credentials to a principal: the loaders that `web.auth` calls."""

from typing import Any
from uuid import UUID

from pingvas import clock, db
from pingvas.accounts import keys, tokens
from pingvas.errors import Forbidden
from pingvas.web.auth import KEY_SCOPES, Principal

_BY_KEY = """
    SELECT users.id, email, tier, role, suspended_at, api_keys.id AS key_id, scopes, last_used_at
    FROM api_keys JOIN users ON users.id = api_keys.user_id
    WHERE key_hash = %(hash)s AND revoked_at IS NULL"""

_BY_SIGN_IN = """
    SELECT id, email, tier, role, suspended_at FROM users WHERE id = %(user)s AND EXISTS (
        SELECT FROM refresh_tokens AS family WHERE family_id = %(family)s AND family.user_id = users.id
        AND revoked_at IS NULL AND expires_at > %(now)s)"""


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
    rows = db.query(_BY_KEY, {"hash": keys.digest(text)})
    if not rows:
        return None
    row = rows[0]
    keys.note_use(row.key_id, row.last_used_at)
    return _principal(row, "key", scopes=KEY_SCOPES & frozenset(row.scopes))


def _signed_in(user_id: UUID, family_id: UUID, via: Any) -> Principal | None:
    rows = db.query(_BY_SIGN_IN, {"user": user_id, "family": family_id, "now": clock.now()})
    return _principal(rows[0], via, sign_in=family_id) if rows else None


def _principal(row: Any, via: Any, **more: Any) -> Principal:
    if row.suspended_at is not None:
        raise Forbidden("This account is suspended")
    return Principal(row.id, row.email, row.tier, row.role, via, **more)
