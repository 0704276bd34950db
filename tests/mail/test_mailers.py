"""Handing a message over: to a real server, and to the log."""

import logging
import ssl
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from pingvas import settings
from pingvas.embedded.servers import forget_settings
from pingvas.mail import Mailer, Message, NotSent, Refused, default
from pingvas.mail.adapters import ConsoleMailer, SmtpMailer
from tests.conftest import free_port
from tests.mail.server import SENDER, Inbox

MESSAGE = Message("ada@example.com", "비밀번호 재설정", "Grüße\n코드: abc\n", "01@pingvas.example")


def test_a_server_gets_the_message_as_it_was_written(mailer: SmtpMailer, inbox: Inbox) -> None:
    mailer.send(MESSAGE)
    [got] = inbox.messages
    assert got["From"] == SENDER
    assert got["To"] == MESSAGE.to
    assert got["Subject"] == MESSAGE.subject
    assert got["Message-ID"] == f"<{MESSAGE.message_id}>"
    assert got["Auto-Submitted"] == "auto-generated"
    assert got.get_content().replace("\r\n", "\n") == MESSAGE.text


def test_the_log_gets_the_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ConsoleMailer().send(MESSAGE)
    assert all(part in caplog.text for part in (MESSAGE.to, MESSAGE.subject, "코드: abc"))


@pytest.mark.parametrize(("answer", "error"), [("550 no such user", Refused), ("451 later", NotSent)])
def test_a_refused_address_says_whether_to_try_again(
    mailer: SmtpMailer, inbox: Inbox, answer: str, error: type[NotSent]
) -> None:
    inbox.refuse = answer
    with pytest.raises(NotSent, match=answer) as caught:
        mailer.send(MESSAGE)
    assert type(caught.value) is error


def test_a_wrong_login_and_an_absent_server_are_for_later(server: Controller) -> None:
    wrong = SmtpMailer.from_url(f"smtp://ada:wrong@127.0.0.1:{server.port}", SENDER)
    absent = SmtpMailer.from_url(f"smtp://127.0.0.1:{free_port()}", SENDER)
    for mailer in (wrong, absent):
        with pytest.raises(NotSent) as caught:
            mailer.send(MESSAGE)
        assert type(caught.value) is NotSent


def test_a_server_without_tls_gets_no_login(inbox: Inbox, server: Controller) -> None:
    mailer = SmtpMailer.from_url(f"starttls://ada:p%40ss%2Fword@127.0.0.1:{server.port}", SENDER)
    with pytest.raises(NotSent):
        mailer.send(MESSAGE)
    assert inbox.messages == []


def test_a_server_whose_certificate_nobody_vouches_for_gets_nothing(inbox: Inbox, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(_certificate(tmp_path))
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port(), tls_context=context)
    controller.start()
    try:
        with pytest.raises(NotSent, match="certificate verify failed"):
            SmtpMailer.from_url(f"starttls://127.0.0.1:{controller.port}", SENDER).send(MESSAGE)
    finally:
        controller.stop()
    assert inbox.messages == []


@pytest.mark.usefixtures("fresh_settings")
def test_the_settings_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: Mailer = default()
    assert isinstance(chosen, ConsoleMailer)
    monkeypatch.setenv("PINGVAS_SMTP_URL", "smtps://ada:s3cr3t@mail.example.com")
    monkeypatch.setenv("PINGVAS_MAIL_FROM", SENDER)
    forget_settings()
    chosen = default()
    assert isinstance(chosen, SmtpMailer)
    assert (chosen.host, chosen.port, chosen.user, chosen.sender) == ("mail.example.com", 465, "ada", SENDER)
    assert "s3cr3t" not in repr(settings.get())


def _certificate(folder: Path) -> Path:
    """Return a file with a self-signed certificate and its key."""
    from datetime import timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from pingvas import clock

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(clock.now() - timedelta(days=1))
        .not_valid_after(clock.now() + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
