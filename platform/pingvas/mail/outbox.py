"""Putting a mail into the outbox."""

from collections.abc import Callable, Mapping
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from pingvas import clock, db, ids
from pingvas.mail import templates
from pingvas.mail.delivery import PREPARE
from pingvas.mail.models import Mail
from pingvas.mail.port import Language

AFTER_SEND: list[Callable[[], object]] = []
"""Called after the commit of each new mail, to have it delivered now and not at the next sweep."""


def send(
    session: Session,
    template: str,
    *,
    to: str,
    language: str = "en",
    values: Mapping[str, object] | None = None,
    user_id: UUID | None = None,
    key: str | None = None,
) -> None:
    """Have a mail sent when this unit of work commits.

    Args:
        session: the unit of work that has something to say.
        template: name of a file of `mail/templates/<language>`.
        to: the address.
        language: `en` or `ko`; any other counts as `en`.
        values: what the template needs, of JSON's types. No secrets: see `mail.PREPARE`.
        user_id: whose mail it is, if somebody's.
        key: the same mail once; a second one with this key is not sent.

    Raises:
        jinja2.TemplateNotFound: there is no such template.
        ValueError: a value that the template needs is missing.
    """
    spoken: Language = "ko" if language == "ko" else "en"
    given = dict(values or {})
    if missing := templates.names_in(template, spoken) - given.keys() - _made_later(template):
        raise ValueError(f"{template}: without a value: {', '.join(sorted(missing))}")
    row = {
        "id": ids.new(),
        "user_id": user_id,
        "recipient": to,
        "language": spoken,
        "template": template,
        "values": given,
        "key": key,
        "attempts": 0,
        "created_at": clock.now(),
        "send_after": clock.now(),
    }
    session.flush()  # the account that the row belongs to may be new
    added = session.execute(insert(Mail).values(row).on_conflict_do_nothing()).rowcount  # type: ignore[attr-defined]
    if added:
        for hook in AFTER_SEND:
            db.after_commit(hook)


def _made_later(template: str) -> frozenset[str]:
    made = PREPARE.get(template)
    return made.names if made else frozenset()
