"""Who somebody is elsewhere."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Person:
    """Who somebody is at a provider; `subject` never changes there, `email` may."""

    provider: str
    subject: str
    email: str
    email_verified: bool
    name: str | None
