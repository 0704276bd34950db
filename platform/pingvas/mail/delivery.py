"""Delivering what is in the outbox: claim a row, talk to the mail server, write down what came of it.

No transaction is open while the server works. A claim moves `send_after` on, which is the lease and the
growing delay in one: whoever dies in the middle leaves a row that is due again later.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text, update
from sqlalchemy.orm import Session

from pingvas import clock, db, settings
from pingvas.mail import adapters, templates
from pingvas.mail.models import Mail
from pingvas.mail.port import Language, Mailer, Message, NotSent, Refused

log = logging.getLogger(__name__)

_MOST: Final = 500
"""Mails of one run; what is left over is the next run's."""

_CLAIM = text("""
    UPDATE mails SET attempts = attempts + 1, send_after = clock_timestamp()
        + least(interval '1 hour', interval '1 minute' * power(2, least(attempts, 10)))
    WHERE id = (
        SELECT id FROM mails WHERE sent_at IS NULL AND gave_up_at IS NULL AND send_after <= clock_timestamp()
        ORDER BY send_after LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, created_at < clock_timestamp() - interval '1 day' AS old""")


@dataclass(frozen=True)
class Prepared:
    """How a template's secret values are made as the mail goes out, so that no row ever holds them.

    `make` gets the mail in a unit of work and returns them under `names`, or None: there is nothing to send.
    """

    names: frozenset[str]
    make: Callable[[Session, Mail], Mapping[str, object] | None]


PREPARE: dict[str, Prepared] = {}
"""By template."""


def deliver(mailer: Mailer | None = None) -> int:
    """Send what is due; return how many mails a server took."""
    sender, sent = mailer or adapters.default(), 0
    for _ in range(_MOST):
        claimed = _claim()
        if claimed is None:
            break
        mail, old = claimed
        sent += _deliver(sender, mail, old)
    return sent


def _claim() -> tuple[Mail, bool] | None:
    with db.transaction() as session:
        row = session.execute(_CLAIM).one_or_none()
        return (session.get_one(Mail, row.id), row.old) if row else None


def _deliver(mailer: Mailer, mail: Mail, old: bool) -> bool:
    message = _message(mail)
    if message is None:
        _close(mail, gave_up_at=clock.now(), error="nothing to send")
        return False
    try:
        mailer.send(message)
    except NotSent as error:
        final = old or isinstance(error, Refused)
        log.warning("mail %s (%s) was not sent%s: %s", mail.id, mail.template, " and is not" * final, error)
        _close(mail, gave_up_at=clock.now() if final else None, error=str(error)[:1_000])
        return False
    _close(mail, sent_at=clock.now(), error=None)
    return True


def _message(mail: Mail) -> Message | None:
    values: Mapping[str, object] | None = {}
    if prepared := PREPARE.get(mail.template):
        with db.transaction() as session:
            values = prepared.make(session, mail)
    if values is None:
        return None
    language: Language = "ko" if mail.language == "ko" else "en"
    subject, body = templates.render(mail.template, language, {**mail.values, **values})
    domain = settings.get().mail_from.rpartition("@")[2].rstrip("> ") or "localhost"
    return Message(mail.recipient, subject, body, f"{mail.id}@{domain}")


def _close(mail: Mail, **values: object) -> None:
    with db.transaction() as session:
        session.execute(update(Mail).where(Mail.id == mail.id).values(**values))
