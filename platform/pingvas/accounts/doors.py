"""Before anybody is signed in: whose account an address or a token is, so that it can be acted for.

The database answers by functions of migration 0011, which see what the API's role does not. An operator
sees everybody's rows and goes through no door.
"""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pingvas import actors, db


def by_email(session: Session, email: str) -> None:
    """Act for the account of an address, for nobody when there is none."""
    _enter(session, func.user_of_email(email))


def by_refresh_token(session: Session, digest: bytes) -> None:
    """Act for the account that a refresh token was given to, by what is stored of it."""
    _enter(session, func.user_of_refresh_token(digest))


def by_one_time_token(session: Session, digest: bytes) -> None:
    """Act for the account that a mailed token is of, by what is stored of it."""
    _enter(session, func.user_of_one_time_token(digest))


def by_identity(session: Session, provider: str, subject: str) -> None:
    """Act for the account that is linked with an identity at another provider."""
    _enter(session, func.user_of_identity(provider, subject))


def _enter(session: Session, question: Any) -> None:
    if not actors.current.get().operator:
        db.act_for(session.scalar(select(question)))
