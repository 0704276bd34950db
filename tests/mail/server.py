"""A real mail server on loopback, and what it got."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from pingvas import mail
from pingvas.mail.adapters import SmtpMailer
from tests.conftest import free_port

SENDER = "Pingvas <no-reply@pingvas.example>"
USER, PASSWORD = "ada", "p@ss/word"
_TOKEN = re.compile(r"[\w-]{43}")


class Inbox:
    """Takes mails; `refuse` is what it answers to the next recipients instead of `250`."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.refuse = ""

    async def handle_RCPT(  # noqa: N802 (aiosmtpd's name)
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refuse:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        parsed: Any = message_from_bytes(envelope.content, policy=policy.default)
        self.messages.append(parsed)
        return "250 OK"


class Post:
    """The outbox, the way to the server, and the server's inbox."""

    def __init__(self, mailer: SmtpMailer, inbox: Inbox) -> None:
        self._mailer = mailer
        self._inbox = inbox

    def collect(self) -> list[EmailMessage]:
        """Deliver what is in the outbox; return what came since the last time."""
        mail.deliver(self._mailer)
        came, self._inbox.messages = self._inbox.messages, []
        return came

    def token(self, to: str = "ada@example.com") -> str:
        """Deliver; return the token of the one mail to this address that has one."""
        lines = [line for it in self.collect() if it["To"] == to for line in it.get_content().splitlines()]
        [token] = filter(_TOKEN.fullmatch, lines)
        return str(token)


def _authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and data == LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=good)


@contextmanager
def running(inbox: Inbox) -> Iterator[Controller]:
    """A mail server that asks for a login."""
    controller = Controller(
        inbox,
        hostname="127.0.0.1",
        port=free_port(),
        authenticator=_authenticate,
        auth_required=True,
        auth_require_tls=False,
    )
    controller.start()
    yield controller
    controller.stop()


def mailer_to(server: Controller) -> SmtpMailer:
    """Return the way to a server of these."""
    return SmtpMailer.from_url(f"smtp://{USER}:p%40ss%2Fword@127.0.0.1:{server.port}", SENDER)
