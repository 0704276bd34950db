"""The list of sign-ins, ending them, session fixation, a change of the secret key."""

from collections.abc import Callable
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask import Flask
from sqlalchemy import text

from pingvas import db, settings
from pingvas.accounts import passwords
from pingvas.app import create_app
from pingvas.embedded.servers import forget_settings
from tests.accounts.conftest import EMAIL, PASSWORD, Caller

Make = Callable[[str | None], Caller]
LOGIN = {"email": EMAIL, "password": PASSWORD}


def test_the_list_shows_where_one_is_signed_in(app: Flask, ada: Caller) -> None:
    app.test_client().post(
        "/api/v1/auth/login", json=LOGIN, headers={"User-Agent": "Browser/1\x07" + "x" * 900}
    )
    status, listed = ada("GET", "/auth/sessions")
    assert status == 200
    newer, mine = listed["items"]
    assert (mine["current"], newer["current"]) == (True, False)
    assert newer["user_agent"].startswith("Browser/1x")
    assert len(newer["user_agent"]) == 200
    assert newer["address"] == "127.0.0.1"


def test_one_can_be_ended(ada: Caller, nobody: Caller, caller: Make) -> None:
    other = caller(nobody("POST", "/auth/login", LOGIN)[1]["access_token"])
    found = next(it for it in ada("GET", "/auth/sessions")[1]["items"] if not it["current"])
    assert ada("DELETE", f"/auth/sessions/{found['id']}") == (204, None)
    assert other("GET", "/auth/me")[0] == 401
    assert ada("GET", "/auth/me")[0] == 200
    assert ada("DELETE", f"/auth/sessions/{found['id']}")[0] == 404


def test_other_peoples_sign_ins_are_404(ada: Caller, nobody: Caller, caller: Make) -> None:
    _, answer = nobody("POST", "/auth/register", {"email": "eve@example.com", "password": PASSWORD})
    eve = caller(answer["access_token"])
    [mine] = ada("GET", "/auth/sessions")[1]["items"]
    for session_id in (mine["id"], "nonsense"):
        assert eve("DELETE", f"/auth/sessions/{session_id}")[0] == 404
    assert [it["id"] for it in eve("GET", "/auth/sessions")[1]["items"]] != [mine["id"]]


def test_logout_everywhere_ends_every_sign_in_but_no_key(
    ada: Caller, nobody: Caller, caller: Make, account: dict[str, Any]
) -> None:
    program = caller(ada("POST", "/api-keys", {"name": "batch"})[1]["key"])
    other = caller(nobody("POST", "/auth/login", LOGIN)[1]["access_token"])
    assert ada("POST", "/auth/logout-all") == (204, None)
    for signed_out in (ada, other):
        assert signed_out("GET", "/auth/me")[0] == 401
    assert nobody("POST", "/auth/refresh", {"refresh_token": account["refresh_token"]})[0] == 401
    assert program("GET", "/auth/me")[0] == 200


def test_a_cookie_planted_before_the_sign_in_is_not_the_one_after_it(
    app: Flask, account: dict[str, Any]
) -> None:
    attacker, victim = app.test_client(), app.test_client()
    attacker.post("/api/v1/auth/register", json={"email": "eve@example.com", "password": PASSWORD})
    planted = attacker.get_cookie("pingvas_session")
    assert planted is not None
    victim.set_cookie("pingvas_session", planted.value)
    csrf = (victim.post("/api/v1/auth/login", json=LOGIN).json or {})["csrf_token"]
    cookie = victim.get_cookie("pingvas_session")
    assert cookie is not None
    assert cookie.value != planted.value
    assert (attacker.get("/api/v1/auth/me").json or {})["email"] == "eve@example.com"
    stolen_csrf = attacker.get_cookie("csrf_token")
    assert stolen_csrf is not None
    assert stolen_csrf.value != csrf
    assert (victim.get("/api/v1/auth/me").json or {})["email"] == EMAIL


@pytest.mark.usefixtures("fresh_settings")
def test_a_change_of_the_secret_key_signs_nobody_out(
    app: Flask, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = app.test_client()
    browser.post("/api/v1/auth/login", json=LOGIN)
    cookie = browser.get_cookie("pingvas_session")
    assert cookie is not None
    bearer = {"Authorization": f"Bearer {account['access_token']}"}
    old = settings.get().secret_key.get_secret_value()
    statuses = {}
    for name, previous in (("with the old key", old), ("without it", "")):
        monkeypatch.setenv("PINGVAS_SECRET_KEY", "another secret key of the tests, as long as that")
        monkeypatch.setenv("PINGVAS_SECRET_KEY_PREVIOUS", previous)
        forget_settings()
        client = create_app().test_client()
        by_token = client.get("/api/v1/auth/me", headers=bearer).status_code
        client.set_cookie("pingvas_session", cookie.value)
        statuses[name] = (by_token, client.get("/api/v1/auth/me").status_code)
    assert statuses == {"with the old key": (200, 200), "without it": (401, 401)}


@pytest.mark.usefixtures("strong_passwords")
def test_a_password_with_old_parameters_is_hashed_anew_at_the_sign_in(ada: Caller, nobody: Caller) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    with db.transaction() as session:
        session.execute(text("UPDATE users SET password_hash = :weak"), {"weak": weak})
    assert nobody("POST", "/auth/login", LOGIN)[0] == 200
    with db.transaction() as session:
        stored = session.scalar(text("SELECT password_hash FROM users"))
    assert stored is not None
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert not passwords.is_outdated(stored)
    assert nobody("POST", "/auth/login", LOGIN)[0] == 200
