"""Staff and a customer, calling over HTTP."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from pingvas import db
from pingvas.accounts.models import SignInRow, User
from pingvas.accounts.register import register
from pingvas.accounts.tokens import sign_in
from pingvas.audit.models import AuditEntry

Make = Callable[..., "Caller"]


class Caller:
    """Somebody signed in by header."""

    def __init__(self, app: Flask, token: str, user_id: UUID) -> None:
        self._client: FlaskClient = app.test_client(use_cookies=False)
        self._headers = {"Authorization": f"Bearer {token}"}
        self.id = user_id

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        """Return the answer."""
        return self._client.open(
            f"/api/v1{path}", method=method, json=body, headers={**self._headers, **headers}
        )

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and document of an answer."""
        response = self.send(method, path, body)
        return response.status_code, response.json if response.data else None


def entries() -> list[AuditEntry]:
    """Return the trail, the oldest first."""
    with db.transaction() as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


@pytest.fixture
def member(clean_db: None) -> User:
    return register("customer@example.com", "correct horse")


@pytest.fixture
def staff(app: Flask, clean_db: None) -> Make:
    """Make an account of a role and return a caller signed in with its second factor."""

    def make(role: str = "admin", *, second_factor: bool = True, stale: bool = False) -> Caller:
        user = register(f"{role}@example.com", "correct horse", role=role)
        with db.transaction() as session:
            signed_in = sign_in(session, user, second_factor=second_factor)
        if stale:
            forget_step_up(signed_in.family_id)
        return Caller(app, signed_in.access_token, user.id)

    return make


def forget_step_up(family_id: UUID) -> None:
    """Let the last proof of the second factor have been an hour ago."""
    with db.transaction() as session:
        session.get_one(SignInRow, family_id).stepped_up_at = None


@pytest.fixture
def admin(staff: Make) -> Caller:
    return staff()


@pytest.fixture
def customer(app: Flask, member: User) -> Caller:
    with db.transaction() as session:
        return Caller(app, sign_in(session, member).access_token, member.id)
