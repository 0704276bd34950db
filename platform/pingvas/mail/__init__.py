"""Mail: an outbox row in the transaction that has something to say, delivered by a control task.

    mail.send(session, "payment-failed", to=user.email, language=user.language, values={"tier": "pro"},
              user_id=user.id, key=f"payment-failed:{invoice}")

Delivery is at least once: a worker that dies between the server's "250" and the row's `sent_at` sends again,
under the same Message-ID.
"""

from pingvas.mail.adapters import default
from pingvas.mail.delivery import PREPARE, deliver
from pingvas.mail.outbox import AFTER_SEND, Letter, send, send_all
from pingvas.mail.port import Language, Mailer, Message, NotSent, Refused
from pingvas.mail.templates import LANGUAGES

__all__ = [
    "AFTER_SEND",
    "LANGUAGES",
    "PREPARE",
    "Language",
    "Letter",
    "Mailer",
    "Message",
    "NotSent",
    "Refused",
    "default",
    "deliver",
    "send",
    "send_all",
]
