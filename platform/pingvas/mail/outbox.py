"""Putting a mail into the outbox."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from pingvas import db, ids
from pingvas.mail import templates
from pingvas.mail.delivery import PREPARE
from pingvas.mail.port import Language
from pingvas.mail.templates import LANGUAGES

AFTER_SEND: list[Callable[[], object]] = []
"""Called after the commit of each new mail, to have it delivered now and not at the next sweep."""

# One parameter, however many there are; the times are the database's, since hosts compare them.
_INSERT = text("""
    INSERT INTO mails
        (id, user_id, recipient, language, template, "values", key, attempts, created_at, send_after)
    SELECT letter.*, 0, clock_timestamp(), clock_timestamp()
    FROM jsonb_to_recordset(CAST(:letters AS jsonb)) AS letter (
        id uuid, user_id uuid, recipient text, language text, template text, "values" jsonb, key text)
    ON CONFLICT DO NOTHING""")


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
    needed = {spoken: templates.names_in(template, spoken) - _made_later(template) for spoken in LANGUAGES}
    rows = [_row(template, letter, needed) for letter in letters]
    result = session.execute(_INSERT, {"letters": json.dumps(rows)})
    if result.rowcount:  # type: ignore[attr-defined]
        for hook in AFTER_SEND:
            db.after_commit(hook)


def _row(template: str, letter: Letter, needed: Mapping[Language, frozenset[str]]) -> dict[str, object]:
    spoken: Language = "ko" if letter.language == "ko" else "en"
    if missing := needed[spoken] - letter.values.keys():
        raise ValueError(f"{template}: without a value: {', '.join(sorted(missing))}")
    return {
        "id": str(ids.new()),
        "user_id": str(letter.user_id) if letter.user_id else None,
        "recipient": letter.to,
        "language": spoken,
        "template": template,
        "values": letter.values,
        "key": letter.key,
    }


def _made_later(template: str) -> frozenset[str]:
    made = PREPARE.get(template)
    return made.names if made else frozenset()
