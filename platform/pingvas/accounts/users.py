"""Find and change accounts."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from pingvas import db
from pingvas.accounts import passwords
from pingvas.accounts.models import TIERS, User
from pingvas.errors import Invalid, InvalidCredentials, NotFound


def get(session: Session, user_id: UUID) -> User:
    """Return an account.

    Raises:
        NotFound: there is none.
    """
    user = session.get(User, user_id)
    if user is None:
        raise NotFound("There is no such user")
    return user


def by_email(session: Session, email: str) -> User | None:
    """Return the account of an address, in whatever case it is written."""
    return session.scalar(select(User).where(User.email == email.strip().lower()))


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


def authenticate(email: str, password: str) -> User:
    """Return the account that address and password belong to; a suspended one as well.

    Raises:
        InvalidCredentials: they do not match. Unknown addresses get the same answer after the same work.
    """
    with db.transaction() as session:
        user = by_email(session, email)
        stored = user.password_hash if user else None
    # No transaction is open while argon2 works.
    if not passwords.matches(stored, password) or user is None:
        raise InvalidCredentials
    return user
