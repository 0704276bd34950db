"""Changing what an account is known by: its password and its address. Each ends other sign-ins."""

from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from pingvas import clock, db
from pingvas.accounts import login, notices, one_time, passwords, tokens, users
from pingvas.accounts.models import ApiKey, User
from pingvas.accounts.register import check_password, normal_email
from pingvas.errors import EmailTaken, Forbidden, InvalidCredentials, InvalidToken


def verify_email(token: str, *, sign_in: UUID | None = None) -> User:
    """Take an address as proved, or as the account's new one; a new one ends all sign-ins but `sign_in`.

    Raises:
        InvalidToken: the token does not work, or is of an address that the account has no more.
        EmailTaken: the new address got an account meanwhile.
    """
    with db.transaction() as session:
        row = one_time.redeem(session, token, "verify-email", "change-email")
        user = _locked(session, row.user_id)
        if row.purpose == "change-email":
            _move(session, user, row.email, sign_in)
        elif user.email != row.email:
            raise InvalidToken
        user.email_verified_at = clock.now()
        return user


def _move(session: Session, user: User, email: str, sign_in: UUID | None) -> None:
    notices.tell(session, user, "email-changed", new_email=email)  # to the address that it has now
    try:
        with session.begin_nested():
            session.execute(update(User).where(User.id == user.id).values(email=email))
    except IntegrityError as error:
        if "uq_users_email" in str(error.orig):
            raise EmailTaken from None
        raise
    session.refresh(user)
    one_time.end_all(session, user)
    tokens.end_all(session, user.id, but=sign_in)


def request_email(user_id: UUID, password: str, email: str) -> None:
    """Ask the owner of a new address to prove it. To one that has an account nothing is sent in the end.

    Raises:
        Invalid: this is no address.
        InvalidCredentials: the password is wrong.
        Forbidden: the account has no password.
        TooMany: too many wrong passwords.
    """
    email = normal_email(email)
    check_own_password(user_id, password)
    with db.transaction() as session:
        user = users.get(session, user_id)
        one_time.request(session, "change-email", email, user.language, user)


def change_password(user_id: UUID, password: str, new: str, *, sign_in: UUID | None) -> None:
    """Set another password and end all sign-ins but `sign_in`.

    Raises:
        Invalid: the new one is too short or too long.
        InvalidCredentials: the present one is wrong.
        Forbidden: the account has none.
        TooMany: too many wrong passwords.
    """
    check_password(new)
    check_own_password(user_id, password)
    hashed = passwords.hash_of(new)
    with db.transaction() as session:
        _set(session, _locked(session, user_id), hashed, but=sign_in)


def reset_password(token: str, new: str) -> None:
    """Set a password with a token from a mail, and end every sign-in.

    Where the mail is the first proof of the address, whoever opened the account may not have owned it: the
    API keys made so far end too.

    Raises:
        Invalid: the new password is too short or too long.
        InvalidToken: the token does not work.
    """
    check_password(new)
    with db.transaction() as session:
        one_time.find(session, token, "reset-password")
    hashed = passwords.hash_of(new)  # no transaction is open while argon2 works
    with db.transaction() as session:
        row = one_time.redeem(session, token, "reset-password")
        user = _locked(session, row.user_id)
        if user.email != row.email:
            raise InvalidToken
        if user.email_verified_at is None:
            user.email_verified_at = clock.now()
            theirs = (ApiKey.user_id == user.id, ApiKey.revoked_at.is_(None))
            session.execute(update(ApiKey).where(*theirs).values(revoked_at=func.clock_timestamp()))
        _set(session, user, hashed)
        email = user.email
    login.forgive(email)


def check_own_password(user_id: UUID, password: str) -> None:
    """See that somebody who is signed in knows the account's password.

    Raises:
        InvalidCredentials: it is wrong.
        Forbidden: the account has none.
        TooMany: too many wrong ones.
    """
    with db.transaction() as session:
        user = users.get(session, user_id)
        stored = user.password_hash
    if stored is None:
        raise Forbidden("This account has no password; set one with request-password-reset")
    with login.counted(user.email) as attempt:
        if not passwords.matches(stored, password):
            raise InvalidCredentials("The password is wrong")
        attempt.succeeded()


def _set(session: Session, user: User, hashed: str, *, but: UUID | None = None) -> None:
    user.password_hash = hashed
    one_time.end_all(session, user)
    tokens.end_all(session, user.id, but=but)
    notices.tell(session, user, "password-changed")


def _locked(session: Session, user_id: UUID) -> User:
    return session.get_one(User, user_id, with_for_update=True)
