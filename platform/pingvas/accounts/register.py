"""Open an account."""

import re
from collections.abc import Callable

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from pingvas import db, ids
from pingvas.accounts import passwords
from pingvas.accounts.models import LANGUAGES, ROLES, TIERS, User
from pingvas.errors import EmailTaken, Invalid

AFTER_REGISTER: list[Callable[[Session, User], None]] = []
"""Called in the transaction that makes the account, in order; an error undoes the account."""

MIN_PASSWORD, MAX_PASSWORD = 8, 128
MAX_EMAIL = 254
MAX_NAME = 100
# A sanity check; only a mail that arrives proves an address. Local part: RFC 5322 dot-atom.
_LOCAL = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(rf"(?=.{{1,64}}@){_LOCAL}@(?:{_LABEL}\.)+{_LABEL}")


def register(
    email: str,
    password: str,
    name: str | None = None,
    *,
    tier: str = "free",
    role: str = "user",
    language: str = "en",
) -> User:
    """Make an account and what hangs on it.

    Raises:
        Invalid: the address, the password's length, the name, tier or role is not acceptable.
        EmailTaken: the address has an account, also if it got one this very moment.
    """
    email = normal_email(email)
    check_password(password)
    hashed = passwords.hash_of(password)
    return open_account(
        User(email=email, password_hash=hashed, name=name, tier=tier, role=role, language=language)
    )


def open_account(user: User) -> User:
    """Make an account of a new row, and what hangs on it.

    Raises:
        Invalid: the name, tier, role or language is not acceptable.
        EmailTaken: the address has an account, also if it got one this very moment.
    """
    _check(user)
    user.id = user.id or ids.new()
    with db.transaction() as session:
        db.act_for(user.id)
        try:
            with session.begin_nested():
                session.add(user)
        except IntegrityError as error:
            # The unique index decides: looking first would leave a gap between two at once.
            if "uq_users_email" in str(error.orig):
                raise EmailTaken from None
            raise
        for hook in AFTER_REGISTER:
            hook(session, user)
    return user


def check_password(password: str) -> None:
    """See that a password has an acceptable length.

    Raises:
        Invalid: it has not.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise Invalid.at("password", f"{MIN_PASSWORD} to {MAX_PASSWORD} characters are needed")


def normal_email(text: str) -> str:
    """Return an address as it is stored: trimmed and lowercased.

    Raises:
        Invalid: it is not the shape of an address, or is longer than 254 characters.
    """
    email = text.strip().lower()
    # `lower()` makes ASCII of some foreign letters (the Kelvin sign), hence the look at the original.
    if not text.isascii() or len(email) > MAX_EMAIL or not _EMAIL.fullmatch(email):
        raise Invalid.at("email", "this is not an e-mail address")
    return email


def _check(user: User) -> None:
    if user.name is not None and len(user.name) > MAX_NAME:
        raise Invalid.at("name", f"at most {MAX_NAME} characters")
    for field, allowed in (("tier", TIERS), ("role", ROLES), ("language", LANGUAGES)):
        if getattr(user, field) not in allowed:
            raise Invalid.at(field, f"one of {', '.join(allowed)}")
