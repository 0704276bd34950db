"""A client that is signed in by header."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

EMAIL, PASSWORD = "ada@example.com", "correct horse battery"


class Caller:
    """Calls the API as a program does: with a header, without cookies."""

    def __init__(self, app: Flask, token: str | None = None) -> None:
        self._client: FlaskClient = app.test_client(use_cookies=False)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

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
