"""The outbox: a mail leaves once its transaction has committed, is tried again, and given up in the end."""

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from jinja2 import TemplateNotFound
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from pingvas import db, mail
from pingvas.mail import Message, NotSent, Refused, templates
from pingvas.mail.adapters import SmtpMailer
from pingvas.mail.delivery import Prepared
from pingvas.mail.models import Mail
from tasks import control
from tests.mail.server import Inbox

pytestmark = pytest.mark.usefixtures("clean_db")

TEXTS = Path(templates.__file__).parent / "templates"
TO = "ada@example.com"


class Fails:
    """A mailer whose server has one answer."""

    def __init__(self, error: NotSent) -> None:
        self.error = error
        self.tried = 0

    def send(self, message: Message) -> None:
        self.tried += 1
        raise self.error


def write(key: str | None = None, language: str = "en") -> None:
    with db.transaction() as session:
        mail.send(session, "password-changed", to=TO, language=language, key=key)


def only() -> Mail:
    with db.transaction() as session:
        return session.scalars(select(Mail)).one()


def pass_time(interval: str) -> None:
    moved = (
        f"created_at = created_at - interval '{interval}', send_after = send_after - interval '{interval}'"
    )
    with db.transaction() as session:
        session.execute(text(f"UPDATE mails SET {moved}"))


@pytest.mark.parametrize("template", sorted(path.stem for path in (TEXTS / "en").iterdir()))
def test_each_template_speaks_both_languages_of_the_same_things(template: str) -> None:
    english, korean = (templates.names_in(template, language) for language in mail.LANGUAGES)
    assert english == korean
    values = dict.fromkeys(english, "VALUE")
    rendered = [templates.render(template, language, values) for language in mail.LANGUAGES]
    for subject, body in rendered:
        assert subject
        assert "Subject" not in body
        assert "\n\n\n" not in body
    assert rendered[0][0] != rendered[1][0]


def test_every_korean_template_has_an_english_twin() -> None:
    assert {path.name for path in (TEXTS / "ko").iterdir()} == {
        path.name for path in (TEXTS / "en").iterdir()
    }


def test_a_mail_reaches_a_server_in_its_language(mailer: SmtpMailer, inbox: Inbox) -> None:
    write(language="ko")
    assert mail.deliver(mailer) == 1
    [got] = inbox.messages
    assert (got["To"], got["Subject"]) == (TO, "비밀번호가 변경되었습니다")
    assert str(only().id) in got["Message-ID"]
    assert mail.deliver(mailer) == 0
    assert len(inbox.messages) == 1


def test_a_rolled_back_transaction_sends_nothing(
    mailer: SmtpMailer, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[bool] = []
    monkeypatch.setattr(mail.outbox, "AFTER_SEND", [lambda: rung.append(True)])

    def fail() -> None:
        with db.transaction() as session:
            mail.send(session, "password-changed", to=TO)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (mail.deliver(mailer), inbox.messages, rung) == (0, [], [])
    write()
    assert rung == [True]


def test_the_same_key_is_one_mail() -> None:
    write("once")
    write("once")
    assert only().key == "once"


def test_a_mistake_of_the_caller_is_told_at_once() -> None:
    with db.transaction() as session:
        with pytest.raises(TemplateNotFound):
            mail.send(session, "no-such-template", to=TO)
        with pytest.raises(ValueError, match="new_email"):
            mail.send(session, "email-changed", to=TO)


def test_a_value_cannot_add_a_header() -> None:
    subject, _ = templates.render("password-changed", "en", {"name": "x\nBcc: eve@example.com"})
    assert "\n" not in subject


def test_a_server_that_is_away_is_tried_again_later_and_later(mailer: SmtpMailer, inbox: Inbox) -> None:
    away = Fails(NotSent("away"))
    write()
    delays = []
    for attempt in range(1, 9):
        mail.deliver(away)
        mail.deliver(away)  # not due yet
        assert away.tried == only().attempts == attempt
        with db.transaction() as session:
            waits = session.scalar(
                text("SELECT extract(epoch FROM send_after - clock_timestamp()) FROM mails")
            )
        delays.append(round(float(waits or 0) / 60))
        pass_time("1 hour")
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    assert only().error == "away"
    assert mail.deliver(mailer) == 1
    assert only().error is None


def test_after_a_day_it_is_given_up() -> None:
    away = Fails(NotSent("away"))
    write()
    pass_time("25 hours")
    mail.deliver(away)
    assert only().gave_up_at is not None
    pass_time("25 hours")
    mail.deliver(away)
    assert away.tried == 1


def test_what_a_server_refuses_for_good_is_not_tried_again() -> None:
    refuses = Fails(Refused("550 no such user"))
    write()
    mail.deliver(refuses)
    row = only()
    assert row.gave_up_at is not None
    assert row.error == "550 no such user"


def test_two_workers_send_a_mail_once(mailer: SmtpMailer, inbox: Inbox) -> None:
    for _ in range(10):
        write()
    barrier = threading.Barrier(2)

    def work() -> None:
        barrier.wait()
        mail.deliver(mailer)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({message["Message-ID"] for message in inbox.messages}) == len(inbox.messages) == 10


def test_a_secret_is_made_as_the_mail_leaves(
    mailer: SmtpMailer, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(session: Session, row: Mail) -> Mapping[str, object] | None:
        return {"token": "a-secret-token", "minutes": 60} if row.recipient == TO else None

    names = frozenset({"token", "minutes"})
    monkeypatch.setitem(mail.PREPARE, "reset-password", Prepared(names, make))
    with db.transaction() as session:
        for to in (TO, "nobody@example.com"):
            mail.send(session, "reset-password", to=to)
    assert mail.deliver(mailer) == 1
    [got] = inbox.messages
    assert "a-secret-token" in got.get_content()
    with db.transaction() as session:
        rows = session.scalars(text("SELECT mails::text FROM mails")).all()
    assert len(rows) == 2
    assert not any("a-secret-token" in row for row in rows)


def test_the_control_task_delivers_when_it_is_rung_although_beat_just_did(
    mailer: SmtpMailer, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pingvas.mail.adapters.default", lambda: mailer)
    task = control.send_mails
    assert task.apply().get() == 0
    write()
    assert task.apply().get() is None
    assert task.apply(kwargs={"rung": True}).get() == 1
    assert len(inbox.messages) == 1
