"""From credentials to a principal: the loaders that `web.auth` calls."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from pingvas import clock, db
from pingvas.accounts import key_uses, keys, tokens
from pingvas.errors import Forbidden
from pingvas.together import Together
from pingvas.web.auth import KEY_SCOPES, Principal

# Functions of migration 0011: before somebody is signed in, the API's role sees no user's rows.
_BY_KEY = """
    SELECT key_hash, id, email, tier, role, suspended_at, key_id, scopes, last_used_at
    FROM signed_in_by_key(%(hashes)s, %(now)s)"""

_BY_SIGN_IN = """
    SELECT family_id, id, email, tier, role, suspended_at, second_factor_at, stepped_up_at
    FROM signed_in(%(families)s, %(now)s)"""

STEPPED_UP = timedelta(minutes=10)


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
    return Principal(
        user.id,
        user.email,
        user.tier,
        user.role,
        "session",
        sign_in=signed_in.family_id,
        second_factor=signed_in.second_factor,
        stepped_up=signed_in.second_factor,
    )


def by_key(text: str) -> Principal | None:
    """Return who an API key stands for, with the key's scopes.

    Raises:
        Forbidden: the account is suspended.
    """
    if not text.startswith(keys.MARK):
        return None
    row = _find_key(keys.digest(text))
    if row is None:
        return None
    key_uses.note(row.key_id, row.last_used_at)
    scopes = KEY_SCOPES & frozenset(row.scopes)
    return _principal(row, "key", scopes=scopes, second_factor="admin" in scopes)


def _signed_in(user_id: UUID, family_id: UUID, via: Any) -> Principal | None:
    row = _find_sign_in(family_id)
    if row is None or row.id != user_id:
        return None
    proved, again = row.second_factor_at, row.stepped_up_at
    stepped_up = proved is not None and again is not None and again > clock.now() - STEPPED_UP
    return _principal(row, via, sign_in=family_id, second_factor=proved is not None, stepped_up=stepped_up)


def _principal(row: Any, via: Any, **more: Any) -> Principal:
    if row.suspended_at is not None:
        raise Forbidden("This account is suspended")
    return Principal(row.id, row.email, row.tier, row.role, via, **more)


def _find_keys(hashes: Sequence[bytes]) -> list[Any]:
    rows = {row.key_hash: row for row in db.query(_BY_KEY, {"hashes": list(hashes), "now": clock.now()})}
    return [rows.get(each) for each in hashes]


def _find_sign_ins(families: Sequence[UUID]) -> list[Any]:
    values = {"families": list(families), "now": clock.now()}
    rows = {row.family_id: row for row in db.query(_BY_SIGN_IN, values)}
    return [rows.get(each) for each in families]


_find_key: Together[bytes, Any] = Together(_find_keys)
_find_sign_in: Together[UUID, Any] = Together(_find_sign_ins)
