"""Mails that tell the owner of an account what became of it."""

import hashlib
from typing import Final

from sqlalchemy.orm import Session

from pingvas import clock, mail
from pingvas.accounts.models import User

_APART: Final = 3_600
"""Seconds in which an address that nobody has proved gets one mail of a kind: it may be a stranger's."""


def tell(session: Session, user: User, template: str, **values: object) -> None:
    """Mail a user about a change, when this unit of work commits."""
    key = None
    if user.email_verified_at is None:
        address = hashlib.sha256(user.email.encode()).hexdigest()[:32]
        key = f"{template}:{address}:{int(clock.now().timestamp()) // _APART}"
    mail.send(
        session, template, to=user.email, language=user.language, values=values, user_id=user.id, key=key
    )
