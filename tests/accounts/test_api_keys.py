"""API keys: shown once, kept as a hash, good for what they were made for."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text

from pingvas import clock, db
from pingvas.accounts import key_uses, principals
from pingvas.accounts.models import ApiKey
from pingvas.errors import Forbidden
from pingvas.web import auth

Caller = Callable[..., tuple[int, Any]]
Make = Callable[[str], Caller]
NOBODYS = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def made(ada: Caller) -> dict[str, Any]:
    status, answer = ada("POST", "/api-keys", {"name": "batch"})
    assert status == 201
    document: dict[str, Any] = answer
    return document


@pytest.fixture
def program(caller: Make, made: dict[str, Any]) -> Caller:
    """A caller with the key."""
    return caller(made["key"])


def rows() -> list[ApiKey]:
    with db.transaction() as session:
        return list(session.scalars(select(ApiKey)))


def test_a_key_signs_in(program: Caller, made: dict[str, Any], account: dict[str, Any]) -> None:
    assert made["key"].startswith("pv_")
    assert len(made["key"]) >= 3 + 32
    assert made["key"].startswith(made["prefix"])
    assert made["scopes"] == ["generate", "read"]
    assert program("GET", "/auth/me") == (200, account["user"])


def test_a_key_is_shown_once_and_kept_as_a_hash(ada: Caller, made: dict[str, Any]) -> None:
    status, listed = ada("GET", "/api-keys")
    assert status == 200
    assert [item["id"] for item in listed["items"]] == [made["id"]]
    assert "key" not in listed["items"][0]
    secret = made["key"][len(made["prefix"]) :]
    assert secret not in str(listed)
    with db.transaction() as session:
        for table in db.Base.metadata.tables:
            dump = session.scalars(text(f"SELECT t::text FROM {table} t")).all()
            assert not any(secret in row or secret.encode().hex() in row for row in dump), table


def test_a_repeated_idempotency_key_does_not_show_the_key_again(app: Flask, account: dict[str, Any]) -> None:
    client = app.test_client(use_cookies=False)
    headers = {"Authorization": f"Bearer {account['access_token']}", "Idempotency-Key": "once"}
    first, again = (
        client.post("/api/v1/api-keys", json={"name": "batch"}, headers=headers).json or {} for _ in range(2)
    )
    assert first["key"].startswith("pv_")
    assert again == {**first, "key": None}
    assert len(rows()) == 1


def test_a_key_can_be_given_fewer_rights(caller: Make, ada: Caller) -> None:
    _, made = ada("POST", "/api-keys", {"name": "writer", "scopes": ["write"]})
    assert made["scopes"] == ["write"]
    status, problem = caller(made["key"])("GET", "/auth/me")
    assert (status, problem["code"], problem["required_scope"]) == (403, "FORBIDDEN", "read")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a" * 101},
        {"name": "a\u0000"},
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["account"]},
        {"name": "a", "scopes": ["everything"]},
        {"name": "a", "key": "pv_mine"},
    ],
)
def test_a_bad_request_is_422(ada: Caller, body: dict[str, Any]) -> None:
    assert ada("POST", "/api-keys", body)[0] == 422
    assert rows() == []


def test_a_key_cannot_make_or_end_keys(program: Caller, made: dict[str, Any]) -> None:
    assert program("POST", "/api-keys", {"name": "another"})[0] == 403
    assert program("DELETE", f"/api-keys/{made['id']}")[0] == 403


def test_an_ended_key_is_401_and_gone(ada: Caller, program: Caller, made: dict[str, Any]) -> None:
    assert ada("DELETE", f"/api-keys/{made['id']}") == (204, None)
    assert program("GET", "/auth/me")[0] == 401
    assert ada("GET", "/api-keys")[1]["items"] == []
    assert ada("DELETE", f"/api-keys/{made['id']}")[0] == 404


def test_other_peoples_keys_are_404(caller: Make, ada: Caller, nobody: Caller, made: dict[str, Any]) -> None:
    _, answer = nobody("POST", "/auth/register", {"email": "eve@example.com", "password": "correct horse"})
    eve = caller(answer["access_token"])
    assert eve("GET", "/api-keys")[1]["items"] == []
    for key_id in (made["id"], NOBODYS, "nonsense", "%00", "é"):
        assert eve("DELETE", f"/api-keys/{key_id}")[0] == 404
    assert ada("GET", "/api-keys")[1]["items"] != []


def test_use_is_noted_once_a_minute(program: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def used_after(seconds: int) -> Any:
        moment = start + timedelta(seconds=seconds)
        monkeypatch.setattr(clock, "now", lambda: moment)
        assert program("GET", "/auth/me")[0] == 200
        key_uses.flush()
        return rows()[0].last_used_at

    start = clock.now()
    assert rows()[0].last_used_at is None
    assert used_after(0) == used_after(59) == start
    assert used_after(61) == start + timedelta(seconds=61)


def test_a_key_can_expire(ada: Caller, caller: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = clock.now() + timedelta(minutes=5)
    status, made = ada("POST", "/api-keys", {"name": "short", "expires_at": soon.isoformat()})
    assert status == 201
    program = caller(made["key"])
    assert program("GET", "/auth/me")[0] == 200
    monkeypatch.setattr(clock, "now", lambda: soon)
    assert program("GET", "/auth/me")[0] == 401
    assert ada("GET", "/api-keys")[1]["items"] == []


@pytest.mark.parametrize("moment", ["2001-01-01T00:00:00Z", "2999-01-01T00:00:00", "tomorrow", 0])
def test_an_expiry_is_a_moment_to_come(ada: Caller, moment: object) -> None:
    assert ada("POST", "/api-keys", {"name": "a", "expires_at": moment})[0] == 422
    assert rows() == []


def test_a_rotated_key_has_the_same_rights_and_the_old_one_ends(
    ada: Caller, caller: Make, program: Caller, made: dict[str, Any]
) -> None:
    status, new = ada("POST", f"/api-keys/{made['id']}/rotate")
    assert status == 201
    assert (new["name"], new["scopes"]) == (made["name"], made["scopes"])
    assert new["key"] != made["key"]
    assert caller(new["key"])("GET", "/auth/me")[0] == 200
    assert program("GET", "/auth/me")[0] == 401
    assert [item["id"] for item in ada("GET", "/api-keys")[1]["items"]] == [new["id"]]
    assert ada("POST", f"/api-keys/{made['id']}/rotate")[0] == 404


def test_a_rotated_key_can_work_on_for_a_while(
    ada: Caller, program: Caller, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ada("POST", f"/api-keys/{made['id']}/rotate", {"grace_seconds": 60})[0] == 201
    assert program("GET", "/auth/me")[0] == 200
    later = clock.now() + timedelta(seconds=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert program("GET", "/auth/me")[0] == 401


@pytest.mark.parametrize("grace", [-1, 604_801, "60", 1.5])
def test_a_grace_has_bounds(ada: Caller, made: dict[str, Any], grace: object) -> None:
    assert ada("POST", f"/api-keys/{made['id']}/rotate", {"grace_seconds": grace})[0] == 422


def make_admin() -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE users SET role = 'admin'"))


def test_a_user_cannot_make_an_admins_key(ada: Caller) -> None:
    status, problem = ada("POST", "/api-keys", {"name": "a", "scopes": ["admin"]})
    assert (status, problem["code"]) == (403, "FORBIDDEN")
    assert rows() == []


def test_an_admin_without_a_second_factor_cannot_make_an_admins_key(ada: Caller) -> None:
    make_admin()
    status, problem = ada("POST", "/api-keys", {"name": "a", "scopes": ["admin"]})
    assert (status, problem["code"]) == (403, "SECOND_FACTOR_REQUIRED")
    assert rows() == []


@pytest.mark.usefixtures("authenticator")
def test_an_admin_with_one_can_and_the_key_counts_for_it(ada: Caller) -> None:
    make_admin()
    status, made = ada("POST", "/api-keys", {"name": "a", "scopes": ["admin"]})
    assert status == 201
    principal = principals.by_key(made["key"])
    assert principal is not None
    assert (principal.second_factor, principal.stepped_up) == (True, False)
    auth.check_role(principal, "admin")
    with db.transaction() as session:
        session.execute(text("UPDATE users SET role = 'user'"))
    demoted = principals.by_key(made["key"])
    assert demoted is not None
    with pytest.raises(Forbidden):
        auth.check_role(demoted, "admin")
