"""The ways of sending mail: SMTP, and the log for an instance without a mail server."""

import logging
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, urlsplit

from pingvas import clock, settings
from pingvas.mail.port import Mailer, Message, NotSent, Refused

log = logging.getLogger(__name__)

_SECONDS: Final = 20.0
_PORTS: Final = {"smtp": 25, "starttls": 587, "smtps": 465}


class ConsoleMailer:
    """Writes messages to the log: on a laptop, that is where its owner reads them."""

    def send(self, message: Message) -> None:
        """Write the message."""
        log.info("mail to %s\nSubject: %s\n\n%s", message.to, message.subject, message.text)


@dataclass(frozen=True)
class SmtpMailer:
    """Hands messages to a mail server, a connection for each (RFC 5321).

    `scheme` is `smtp` (plain, for a server on this machine), `starttls` or `smtps`.
    """

    scheme: str
    host: str
    port: int
    user: str
    password: str
    sender: str
    tls: ssl.SSLContext

    @classmethod
    def from_url(cls, url: str, sender: str) -> "SmtpMailer":
        """Make one from `smtp://user:password@host:port`."""
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        port = parts.port or _PORTS[parts.scheme]
        tls = ssl.create_default_context()
        return cls(parts.scheme, parts.hostname or "localhost", port, user, password, sender, tls)

    def send(self, message: Message) -> None:
        """Hand the message over.

        Raises:
            NotSent: the server is away, or says "later" (4xx) or anything else but "never".
            Refused: the server refuses the message or the address for good (5xx).
        """
        try:
            with self._connect() as server:
                if self.user:
                    server.login(self.user, self.password)
                server.send_message(self._rendered(message))
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise _failure(code, text) from None
        except smtplib.SMTPAuthenticationError as error:  # of our account, not of the message
            raise NotSent(str(error)) from None
        except smtplib.SMTPResponseException as error:
            raise _failure(error.smtp_code, error.smtp_error) from None
        except (smtplib.SMTPException, OSError) as error:
            raise NotSent(f"{type(error).__name__}: {error}") from None

    def _connect(self) -> smtplib.SMTP:
        if self.scheme == "smtps":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=_SECONDS, context=self.tls)
        server = smtplib.SMTP(self.host, self.port, timeout=_SECONDS)
        if self.scheme == "starttls":
            try:
                server.starttls(context=self.tls)
            except BaseException:
                server.close()
                raise
        return server

    def _rendered(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = self.sender
        mail["To"] = message.to
        mail["Subject"] = message.subject
        mail["Date"] = clock.now()
        mail["Message-ID"] = f"<{message.message_id}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office notes, please
        mail.set_content(message.text)
        return mail


def _failure(code: int, text: bytes | str) -> NotSent:
    said = text.decode(errors="replace") if isinstance(text, bytes) else text
    return (Refused if 500 <= code < 600 else NotSent)(f"{code} {said}")


def default() -> Mailer:
    """Return the way that the settings name: SMTP when `PINGVAS_SMTP_URL` is set, else the log."""
    return _mailer(settings.get())


@lru_cache(maxsize=4)
def _mailer(config: settings.Settings) -> Mailer:
    url = config.smtp_url.get_secret_value()
    return SmtpMailer.from_url(url, config.mail_from) if url else ConsoleMailer()
