"""Which account somebody has who signs in through another provider (docs/decisions/0018)."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from pingvas import clock, db
from pingvas.accounts import doors, notices, users
from pingvas.accounts.models import Identity, User
from pingvas.accounts.oauth.person import Person
from pingvas.accounts.register import normal_email, open_account
from pingvas.errors import Conflict, EmailNotVerified, EmailTaken


def account_of(person: Person, language: str) -> User:
    """Return the account of a person, linked or opened now if need be.

    An account is linked by its address only where both sides have proved it: the provider that it is the
    person's, we that it is the account's. Else somebody who opens an account with a stranger's address, or
    claims one at a careless provider, would share the stranger's account.

    Raises:
        EmailNotVerified: there is no link yet, and the provider has not verified the address.
        EmailTaken: the address has an account here that has not verified it.
        Conflict: the account is linked with another identity of this provider.
    """
    with db.transaction() as session:
        linked = _linked(session, person)
        if linked is not None:
            return linked
        if not (person.email_verified and person.email):
            name = person.provider.capitalize()
            raise EmailNotVerified(f"Verify your e-mail address at {name}, then sign in again")
        email = normal_email(person.email)
        user = users.by_email(session, email)
        known = user is not None
        if user is None:
            user = open_account(
                User(
                    email=email,
                    email_verified_at=clock.now(),
                    name=person.name,
                    tier="free",
                    role="user",
                    language=language,
                )
            )
        _link(session, user, person, email)
        if known:
            notices.tell(session, user, "provider-linked", provider=person.provider.capitalize())
        return user


def _linked(session: Session, person: Person) -> User | None:
    doors.by_identity(session, person.provider, person.subject)
    known = (Identity.provider == person.provider, Identity.subject == person.subject)
    identity = session.scalar(select(Identity).where(*known))
    if identity is None:
        return None
    identity.last_used_at = clock.now()
    return session.get_one(User, identity.user_id)


def _link(session: Session, user: User, person: Person, email: str) -> None:
    if user.email_verified_at is None:
        raise EmailTaken(
            "This address has an account that has not verified it: sign in with the password and verify it, "
            "or reset the password"
        )
    theirs = (Identity.user_id == user.id, Identity.provider == person.provider)
    if session.scalar(select(Identity.id).where(*theirs)) is not None:
        raise Conflict(f"This account is linked with another identity at {person.provider.capitalize()}")
    session.add(Identity(user_id=user.id, provider=person.provider, subject=person.subject, email=email))
    session.flush()
