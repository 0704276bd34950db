"""Putting a mail into the outbox."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from pingvas import db, ids
from pingvas.mail import templates
from pingvas.mail.delivery import PREPARE
from pingvas.mail.models import Mail
from pingvas.mail.port import Language

AFTER_SEND: list[Callable[[], object]] = []
"""Called after the commit of each new mail, to have it delivered now and not at the next sweep."""

_BATCH = 1_000  # rows of a statement


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
    send_all(session, template, [Letter(to, language, values or {}, user_id, key)])


@dataclass(frozen=True)
class Letter:
    """One of many mails of a template; see `send`."""

    to: str
    language: str
    values: Mapping[str, object]
    user_id: UUID | None
    key: str | None


def send_all(session: Session, template: str, letters: Sequence[Letter]) -> None:
    """Have many mails of a template sent when this unit of work commits; see `send`. The hooks ring once."""
    if not letters:
        return
    session.flush()  # the accounts that the rows belong to may be new
    added = 0
    for batch in range(0, len(letters), _BATCH):
        rows = [_row(template, letter) for letter in letters[batch : batch + _BATCH]]
        result = session.execute(insert(Mail).values(rows).on_conflict_do_nothing())
        added += result.rowcount  # type: ignore[attr-defined]
    if added:
        for hook in AFTER_SEND:
            db.after_commit(hook)


def _row(template: str, letter: Letter) -> dict[str, object]:
    spoken: Language = "ko" if letter.language == "ko" else "en"
    given = dict(letter.values)
    if missing := templates.names_in(template, spoken) - given.keys() - _made_later(template):
        raise ValueError(f"{template}: without a value: {', '.join(sorted(missing))}")
    return {
        "id": ids.new(),
        "user_id": letter.user_id,
        "recipient": letter.to,
        "language": spoken,
        "template": template,
        "values": given,
        "key": letter.key,
        "attempts": 0,
        # The database's, since hosts compare them.
        "created_at": func.clock_timestamp(),
        "send_after": func.clock_timestamp(),
    }


def _made_later(template: str) -> frozenset[str]:
    made = PREPARE.get(template)
    return made.names if made else frozenset()
