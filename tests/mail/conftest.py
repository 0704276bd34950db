"""A mail server for a test."""

from collections.abc import Iterator

import pytest
from aiosmtpd.controller import Controller

from pingvas.mail.adapters import SmtpMailer
from tests.mail.server import Inbox, mailer_to, running


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def server(inbox: Inbox) -> Iterator[Controller]:
    with running(inbox) as server:
        yield server


@pytest.fixture
def mailer(server: Controller) -> SmtpMailer:
    return mailer_to(server)
