"""The port every way of sending mail implements."""

from dataclasses import dataclass
from typing import Literal, Protocol

Language = Literal["en", "ko"]


class NotSent(Exception):
    """The message could not be handed over now; it may work later."""


class Refused(NotSent):
    """The server will never take this message, as for an address that does not exist (SMTP 5xx)."""


@dataclass(frozen=True)
class Message:
    """A plain text to one person; `message_id` (RFC 5322, without its angle brackets) gives repeats away."""

    to: str
    subject: str
    text: str
    message_id: str


class Mailer(Protocol):
    """Hands messages over to whoever carries them."""

    def send(self, message: Message) -> None:
        """Hand a message over; it is somebody else's to carry when this returns.

        Raises:
            NotSent: not now.
            Refused: never.
        """
