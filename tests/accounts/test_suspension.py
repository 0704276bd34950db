"""A suspended account is out at once, whatever it still holds, and its jobs stop."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from pingvas import db
from pingvas.accounts import users
from pingvas.billing import reconcile
from pingvas.errors import NotFound
from pingvas.ids import new
from tests.accounts.conftest import EMAIL, PASSWORD, Caller

LOGIN = {"email": EMAIL, "password": PASSWORD}


def suspend() -> None:
    with db.transaction() as session:
        users.suspend(session, session.scalars(text("SELECT id FROM users")).one())


def test_live_tokens_keys_and_sessions_are_refused_at_once(
    app: Flask, ada: Caller, nobody: Caller, caller: Any, account: dict[str, Any]
) -> None:
    browser = app.test_client()
    browser.post("/api/v1/auth/login", json=LOGIN)
    program = caller(ada("POST", "/api-keys", {"name": "batch"})[1]["key"])
    suspend()
    assert browser.get("/api/v1/auth/me").status_code == 401
    assert ada("GET", "/auth/me")[0] == 401
    assert program("GET", "/auth/me")[0] == 403
    assert nobody("POST", "/auth/refresh", {"refresh_token": account["refresh_token"]})[0] == 401
    assert nobody("POST", "/auth/login", LOGIN)[0] == 403


def test_waiting_jobs_are_cancelled_and_their_holds_released(ada: Caller) -> None:
    jobs = [ada("POST", "/generate", {"prompt": "a red circle"})[1]["job_id"] for _ in range(3)]
    with db.transaction() as session:
        held = session.scalar(text("SELECT held FROM wallets"))
        session.execute(
            text("UPDATE jobs SET status = 'in_progress', attempt = 1 WHERE id = :id"), {"id": jobs[0]}
        )
    assert held
    suspend()
    with db.transaction() as session:
        states: dict[str, str] = {
            row.id: row.status for row in session.execute(text("SELECT id::text, status FROM jobs"))
        }
        asked = session.scalar(text("SELECT cancel_requested_at FROM jobs WHERE status = 'in_progress'"))
        assert not any(reconcile.problems(session).values())
        left = session.scalar(text("SELECT held FROM wallets"))
    assert [states[job] for job in jobs] == ["in_progress", "cancelled", "cancelled"]
    assert asked is not None
    assert left == held // 3


def test_a_restored_account_signs_in_again_and_its_keys_work(
    ada: Caller, nobody: Caller, caller: Any
) -> None:
    program = caller(ada("POST", "/api-keys", {"name": "batch"})[1]["key"])
    suspend()
    with db.transaction() as session:
        users.restore(session, session.scalars(text("SELECT id FROM users")).one())
    assert nobody("POST", "/auth/login", LOGIN)[0] == 200
    assert program("GET", "/auth/me")[0] == 200
    assert ada("GET", "/auth/me")[0] == 401


def test_nobody_cannot_be_suspended(clean_db: None) -> None:
    with pytest.raises(NotFound), db.transaction() as session:
        users.suspend(session, new())
