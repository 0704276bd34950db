"""The list of an account's sign-ins, and the one in force."""

from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from pingvas import clock
from pingvas.accounts import tokens
from pingvas.accounts.models import SignInRow
from pingvas.errors import NotFound


def of(user_id: UUID) -> Select[SignInRow]:
    """Return the query of a user's sign-ins that count."""
    return select(SignInRow).where(*_open(user_id))


def end(session: Session, user_id: UUID, sign_in: UUID) -> None:
    """End one of a user's sign-ins.

    Raises:
        NotFound: there is none with this id that counts.
    """
    ended = update(SignInRow).where(*_open(user_id), SignInRow.id == sign_in)
    if session.scalar(ended.values(ended_at=clock.now()).returning(SignInRow.id)) is None:
        raise NotFound("There is no such sign-in")
    tokens.shut_out(user_id)


def note_proof(session: Session, sign_in: UUID) -> None:
    """Write down that a sign-in has just proved its second factor."""
    row = session.get_one(SignInRow, sign_in)
    row.stepped_up_at = clock.now()
    row.second_factor_at = row.second_factor_at or row.stepped_up_at


def forget_proofs(session: Session, user_id: UUID) -> None:
    """Take the proofs back from a user's sign-ins: the second factor is no more."""
    theirs = update(SignInRow).where(SignInRow.user_id == user_id)
    session.execute(theirs.values(second_factor_at=None, stepped_up_at=None))


def _open(user_id: UUID) -> tuple[Any, ...]:
    return SignInRow.user_id == user_id, SignInRow.ended_at.is_(None), SignInRow.expires_at > clock.now()
