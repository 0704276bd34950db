"""Signing in: lock-out, password, second factor, in this order; what fails says as little as it can."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import update

from pingvas import db
from pingvas.accounts import lockout, passwords, second_factor, users
from pingvas.accounts.models import User
from pingvas.accounts.second_factor import Proof
from pingvas.errors import InvalidCredentials, SecondFactorInvalid, SecondFactorRequired


@dataclass
class Attempt:
    """An attempt that counts as failed unless it is said otherwise."""

    outcome: str = "failed"

    def succeeded(self) -> None:
        """Forget the failures before it."""
        self.outcome = "succeeded"

    def undecided(self) -> None:
        """Do not count it: more is needed before it can be judged."""
        self.outcome = "undecided"


@contextmanager
def counted(account: str, address: str | None = None) -> Iterator[Attempt]:
    """Count the block as an attempt on `account`, a text that names it whether it exists or not.

    Raises:
        TooMany: there were too many failures.
    """
    lockout.enter(account, address)
    attempt = Attempt()
    try:
        yield attempt
    finally:
        if attempt.outcome == "succeeded":
            lockout.succeeded(account, address)
        elif attempt.outcome == "undecided":
            lockout.undo(account, address)


def forgive(email: str) -> None:
    """Let an account be signed in to at once again."""
    lockout.forget(email)


def authenticate(
    email: str, password: str, proof: Proof | None = None, *, address: str | None = None
) -> tuple[User, bool]:
    """Return the account that address and password belong to, suspended ones too, and whether a second
    factor was proved.

    Raises:
        InvalidCredentials: they do not match. Unknown addresses get the same answer after the same work.
        SecondFactorRequired: they match, and `proof` is missing.
        SecondFactorInvalid: they match, and `proof` is wrong.
        TooMany: too many failures of this account or address.
    """
    with counted(email, address) as attempt:
        with db.transaction() as session:
            user = users.by_email(session, email, with_password=True)
            stored = user.password_hash if user else None
        # No transaction is open while argon2 works.
        if not passwords.matches(stored, password) or user is None:
            raise InvalidCredentials
        if stored is not None and passwords.is_outdated(stored):
            _rehash(user.id, stored, password)
        factor = second_factor.is_enabled(user.id)
        if factor:
            _prove(user.id, proof, attempt)
        attempt.succeeded()
        return user, factor


def _prove(user_id: UUID, proof: Proof | None, attempt: Attempt) -> None:
    if proof is None:
        attempt.undecided()
        raise SecondFactorRequired("Give `totp`, or a `recovery_code`, with e-mail and password")
    if not second_factor.check(user_id, proof):
        raise SecondFactorInvalid


def prove(user_id: UUID, proof: Proof) -> None:
    """Check the second factor of somebody who is otherwise known.

    Raises:
        SecondFactorRequired: there is none.
        SecondFactorInvalid: the proof is wrong.
        TooMany: too many wrong ones.
    """
    with counted(f"second factor of {user_id}") as attempt:
        if not second_factor.is_enabled(user_id):
            attempt.undecided()
            raise SecondFactorRequired("This account has no second factor; enrol one first")
        _prove(user_id, proof, attempt)
        attempt.succeeded()


def _rehash(user_id: UUID, stored: str, password: str) -> None:
    hashed = passwords.hash_of(password)
    with db.transaction() as session:
        same = (User.id == user_id, User.password_hash == stored)
        session.execute(update(User).where(*same).values(password_hash=hashed))
