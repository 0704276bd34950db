"""Find and change accounts."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from pingvas import clock
from pingvas.accounts import doors, tokens
from pingvas.accounts.models import ROLES, TIERS, User
from pingvas.errors import Invalid, NotFound

AFTER_SUSPEND: list[Callable[[Session, User], None]] = []
"""Called in the transaction that suspends an account, in order."""


def get(session: Session, user_id: UUID) -> User:
    """Return an account.

    Raises:
        NotFound: there is none.
    """
    user = session.get(User, user_id)
    if user is None:
        raise NotFound("There is no such user")
    return user


def by_email(session: Session, email: str, *, with_password: bool = False) -> User | None:
    """Return the account of an address, in whatever case it is written, also with the password's hash."""
    email = email.strip().lower()
    doors.by_email(session, email)
    loaded = [undefer(User.password_hash)] if with_password else []
    return session.scalar(select(User).where(User.email == email).options(*loaded))


def set_tier(session: Session, user_id: UUID, tier: str) -> User:
    """Move an account to another plan.

    Raises:
        NotFound: there is no such account.
        Invalid: there is no such tier.
    """
    if tier not in TIERS:
        raise Invalid(f"There is no tier {tier!r}; there are {', '.join(TIERS)}")
    user = get(session, user_id)
    user.tier = tier
    return user


def set_role(session: Session, user_id: UUID, role: str) -> User:
    """Give an account another role.

    Raises:
        NotFound: there is no such account.
        Invalid: there is no such role.
    """
    if role not in ROLES:
        raise Invalid(f"There is no role {role!r}; there are {', '.join(ROLES)}")
    user = get(session, user_id)
    user.role = role
    return user


def suspend(session: Session, user_id: UUID) -> User:
    """Keep an account out: keys, tokens and sessions are refused from the commit on, its jobs are stopped.

    Sign-ins end for good; keys work again when the account is restored.

    Raises:
        NotFound: there is no such account.
    """
    user = get(session, user_id)
    user.suspended_at = user.suspended_at or clock.now()
    tokens.end_all(session, user.id)
    session.flush()
    for hook in AFTER_SUSPEND:
        hook(session, user)
    return user


def restore(session: Session, user_id: UUID) -> User:
    """Let a suspended account in again.

    Raises:
        NotFound: there is no such account.
    """
    user = get(session, user_id)
    user.suspended_at = None
    return user
