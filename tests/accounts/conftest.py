"""A client that is signed in by header."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pyotp
import pytest
from flask import Flask
from flask.testing import FlaskClient

from pingvas import clock
from tests.mail.server import Inbox, Post, mailer_to, running

EMAIL, PASSWORD = "ada@example.com", "correct horse battery"


class Caller:
    """Calls the API as a program does: with a header, without cookies."""

    def __init__(self, app: Flask, token: str | None = None) -> None:
        self._client: FlaskClient = app.test_client(use_cookies=False)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.recovery_codes: list[str] = []

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and document of an answer."""
        url = f"/api/v1{path}"
        response = self._client.open(url, method=method, json=body, headers=self._headers)
        return response.status_code, response.json if response.data else None


@pytest.fixture
def caller(app: Flask, clean_db: None) -> Callable[[str | None], Caller]:
    """Make a caller that sends this token or key."""
    return lambda token: Caller(app, token)


@pytest.fixture
def nobody(app: Flask, clean_db: None) -> Caller:
    return Caller(app)


@pytest.fixture
def account(nobody: Caller) -> dict[str, Any]:
    """The answer to a sign-up."""
    status, answer = nobody("POST", "/auth/register", {"email": EMAIL, "password": PASSWORD, "name": "Ada"})
    assert status == 201
    document: dict[str, Any] = answer
    return document


@pytest.fixture
def ada(app: Flask, account: dict[str, Any]) -> Caller:
    return Caller(app, account["access_token"])


@pytest.fixture
def post(clean_db: None) -> Iterator[Post]:
    """The outbox and a mail server."""
    inbox = Inbox()
    with running(inbox) as server:
        yield Post(mailer_to(server), inbox)


class Authenticator:
    """An app that shows codes, and the clock that it and the server go by; each code is a new one."""

    def __init__(self, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._totp = pyotp.TOTP(secret)
        self._monkeypatch = monkeypatch

    def code(self) -> str:
        """Move time on by a step; return the code of that step."""
        self.move(30)
        return self.same_code()

    def same_code(self) -> str:
        """Return the code of now."""
        return self._totp.at(clock.now())

    def move(self, seconds: float) -> None:
        """Let time pass."""
        moment = clock.now() + timedelta(seconds=seconds)
        self._monkeypatch.setattr(clock, "now", lambda: moment)


@pytest.fixture
def authenticator(ada: Caller, monkeypatch: pytest.MonkeyPatch) -> Authenticator:
    """Turn on ada's second factor; return her app. Her recovery codes are on her caller."""
    status, enrolled = ada("POST", "/auth/second-factor/enrol", {"password": PASSWORD})
    assert status == 200
    app = Authenticator(enrolled["secret"], monkeypatch)
    status, confirmed = ada("POST", "/auth/second-factor/confirm", {"totp": app.code()})
    assert status == 200
    assert len(confirmed["recovery_codes"]) == 10
    ada.recovery_codes = confirmed["recovery_codes"]
    return app
