"""Sign up, sign in, stay signed in, sign out."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pingvas import clock, db, settings
from pingvas.accounts import passwords, register, tokens, users
from pingvas.accounts.models import RefreshToken, User
from pingvas.errors import EmailTaken, Invalid, NotFound

Caller = Callable[..., tuple[int, Any]]
Make = Callable[..., Caller]
LOGIN = {"email": "ada@example.com", "password": "correct horse battery"}


_PAIR = rsa.generate_private_key(65_537, 2_048)
PRIVATE_KEY = _PAIR.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
PUBLIC_KEY = _PAIR.public_key().public_numbers().n.to_bytes(256, "big")


def count(model: type[db.Base]) -> int:
    with db.transaction() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def test_sign_up_answers_tokens_and_the_account(account: dict[str, Any], ada: Caller) -> None:
    assert account["token_type"] == "Bearer"
    assert account["expires_in"] == settings.get().access_token_seconds
    user = account["user"]
    assert set(user) >= {"id", "email", "name", "tier", "role", "created_at"}
    assert (user["email"], user["name"], user["tier"], user["role"]) == (
        "ada@example.com",
        "Ada",
        "free",
        "user",
    )
    assert ada("GET", "/auth/me") == (200, user)


def test_an_address_has_one_account_in_any_case(nobody: Caller, account: dict[str, Any]) -> None:
    body = {"email": " ADA@Example.COM ", "password": "another password"}
    status, problem = nobody("POST", "/auth/register", body)
    assert (status, problem["code"]) == (409, "EMAIL_TAKEN")
    assert nobody("POST", "/auth/login", {**LOGIN, "email": "ADA@example.com"})[0] == 200


def test_two_sign_ups_at_once_make_one_account(clean_db: None) -> None:
    barrier = Barrier(2)

    def sign_up(_: int) -> bool:
        barrier.wait()
        try:
            register.register("twin@example.com", "correct horse")
        except EmailTaken:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(sign_up, range(2))) == [False, True]
    assert count(User) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"email": "nobody"},
        {"email": "a@b"},
        {"email": "a b@example.com"},
        {"email": "a@exa mple.com"},
        {"email": "a@-example.com"},
        {"email": ".a@example.com"},
        {"email": "a@example..com"},
        {"email": "a@example.com\nBcc: b@example.com"},
        {"email": "\u212ado@example.com"},
        {"email": "a" * 65 + "@example.com"},
        {"email": "a@" + "b" * 60 + "." + "c." * 100 + "com"},
        {"email": "a\u0000@example.com"},
        {"email": None},
        {"password": "1234567"},
        {"password": "a" * 129},
        {"password": "12345678\u0000"},
        {"password": 12345678},
        {"name": ""},
        {"name": "a" * 101},
        {"tier": "enterprise"},
        {"role": "admin"},
    ],
)
def test_a_bad_sign_up_is_422_and_repeats_no_password(nobody: Caller, change: dict[str, Any]) -> None:
    body = {**LOGIN, "email": "new@example.com", **change}
    status, problem = nobody("POST", "/auth/register", body)
    assert (status, problem["code"]) == (422, "VALIDATION"), problem
    assert problem["errors"][0]["loc"] == list(change)
    assert str(body["password"]) not in str(problem)
    assert "items" not in problem["detail"]


def test_a_failing_hook_undoes_the_account(clean_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(session: Session, user: User) -> None:
        raise NotFound

    monkeypatch.setattr(register, "AFTER_REGISTER", [fail])
    with pytest.raises(NotFound):
        register.register("ada@example.com", "correct horse")
    assert count(User) == 0


def test_an_unknown_address_and_a_wrong_password_look_the_same(
    nobody: Caller, account: dict[str, Any]
) -> None:
    wrong = nobody("POST", "/auth/login", {**LOGIN, "password": "not this one"})
    unknown = nobody("POST", "/auth/login", {**LOGIN, "email": "nobody@example.com"})
    for _, problem in (wrong, unknown):
        problem.pop("request_id")
    assert wrong == unknown
    assert (wrong[0], wrong[1]["code"]) == (401, "INVALID_CREDENTIALS")


@pytest.mark.usefixtures("strong_passwords")
def test_an_unknown_address_costs_the_same_work() -> None:
    stored = passwords.hash_of("correct horse")
    passwords.matches(None, "warm up")

    def seconds(hashed: str | None) -> float:
        start = time.thread_time()
        passwords.matches(hashed, "not this one")
        return time.thread_time() - start

    known, unknown = (min(seconds(hashed) for _ in range(3)) for hashed in (stored, None))
    assert unknown > known / 3


def test_a_refresh_token_works_once(nobody: Caller, account: dict[str, Any], caller: Make) -> None:
    status, answer = nobody("POST", "/auth/refresh", {"refresh_token": account["refresh_token"]})
    assert status == 200
    assert answer["refresh_token"] != account["refresh_token"]
    assert caller(answer["access_token"])("GET", "/auth/me")[0] == 200


def test_reuse_of_a_refresh_token_ends_its_family(
    nobody: Caller, account: dict[str, Any], caller: Make
) -> None:
    old = {"refresh_token": account["refresh_token"]}
    _, other = nobody("POST", "/auth/login", LOGIN)
    _, newer = nobody("POST", "/auth/refresh", old)
    assert nobody("POST", "/auth/refresh", old)[0] == 401
    assert nobody("POST", "/auth/refresh", {"refresh_token": newer["refresh_token"]})[0] == 401
    assert caller(newer["access_token"])("GET", "/auth/me")[0] == 401
    assert caller(other["access_token"])("GET", "/auth/me")[0] == 200


def test_two_uses_at_once_end_the_family(account: dict[str, Any], nobody: Caller) -> None:
    body = {"refresh_token": account["refresh_token"]}
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: nobody("POST", "/auth/refresh", body), range(2)))
    assert sorted(status for status, _ in answers) == [200, 401]
    _, newer = next(answer for answer in answers if answer[0] == 200)
    assert nobody("POST", "/auth/refresh", {"refresh_token": newer["refresh_token"]})[0] == 401


@pytest.mark.parametrize("token", ["", "x", "é" * 200, "a" * 256])
def test_an_unknown_refresh_token_is_401(nobody: Caller, clean_db: None, token: str) -> None:
    assert nobody("POST", "/auth/refresh", {"refresh_token": token})[0] == 401
    assert nobody("POST", "/auth/logout", {"refresh_token": token})[0] == 204


def test_refresh_tokens_are_kept_as_hashes(account: dict[str, Any]) -> None:
    with db.transaction() as session:
        row = session.scalars(select(RefreshToken)).one()
    assert account["refresh_token"].encode() not in row.token_hash
    assert len(row.token_hash) == 32


def test_tokens_expire(
    nobody: Caller, ada: Caller, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = clock.now() + timedelta(seconds=settings.get().access_token_seconds + 1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert ada("GET", "/auth/me")[0] == 401
    much_later = clock.now() + timedelta(seconds=settings.get().refresh_token_seconds + 1)
    monkeypatch.setattr(clock, "now", lambda: much_later)
    assert nobody("POST", "/auth/refresh", {"refresh_token": account["refresh_token"]})[0] == 401


def test_forged_access_tokens_are_401(account: dict[str, Any], caller: Make) -> None:
    secret = settings.get().secret_key.get_secret_value()
    good = jwt.decode(account["access_token"], options={"verify_signature": False})
    forged = {
        "no algorithm": jwt.encode(good, "", algorithm="none"),
        "another algorithm": jwt.encode(good, secret, algorithm="HS384"),
        "a public key as a secret": jwt.encode(good, PUBLIC_KEY, algorithm="HS256"),
        "a key pair": jwt.encode(good, PRIVATE_KEY, algorithm="RS256"),
        "a key the token brings along": jwt.encode(
            good,
            "x" * 40,
            algorithm="HS256",
            headers={"jwk": {"kty": "oct", "k": "eHh4"}, "kid": "/dev/null"},
        ),
        "another secret": jwt.encode(good, "x" * 40, algorithm="HS256"),
        "another type": jwt.encode({**good, "typ": "refresh"}, secret, algorithm="HS256"),
        "no expiry": jwt.encode({k: v for k, v in good.items() if k != "exp"}, secret, algorithm="HS256"),
        "no type": jwt.encode({k: v for k, v in good.items() if k != "typ"}, secret, algorithm="HS256"),
    }
    for name, token in forged.items():
        assert caller(token)("GET", "/auth/me")[0] == 401, name
    assert caller(jwt.encode(good, secret, algorithm="HS256"))("GET", "/auth/me")[0] == 200


def test_logout_ends_the_sign_in(nobody: Caller, ada: Caller, account: dict[str, Any]) -> None:
    assert ada("POST", "/auth/logout") == (204, None)
    assert ada("GET", "/auth/me")[0] == 401
    assert nobody("POST", "/auth/refresh", {"refresh_token": account["refresh_token"]})[0] == 401


def test_logout_with_the_refresh_token_alone(nobody: Caller, ada: Caller, account: dict[str, Any]) -> None:
    assert nobody("POST", "/auth/logout", {"refresh_token": account["refresh_token"]})[0] == 204
    assert ada("GET", "/auth/me")[0] == 401


def test_logout_makes_a_copied_cookie_useless(app: Flask, clean_db: None, account: dict[str, Any]) -> None:
    browser, thief = app.test_client(), app.test_client()
    token = (browser.post("/api/v1/auth/login", json=LOGIN).json or {})["csrf_token"]
    cookie = browser.get_cookie("pingvas_session")
    assert cookie is not None
    thief.set_cookie("pingvas_session", cookie.value)
    assert thief.get("/api/v1/auth/me").status_code == 200
    assert browser.post("/api/v1/auth/logout", headers={"X-CSRF-Token": token}).status_code == 204
    assert browser.get_cookie("pingvas_session") is None
    assert browser.get("/api/v1/auth/me").status_code == 401
    assert thief.get("/api/v1/auth/me").status_code == 401


def test_a_suspended_account_is_kept_out(nobody: Caller, ada: Caller, account: dict[str, Any]) -> None:
    with db.transaction() as session:
        session.scalars(select(User)).one().suspended_at = clock.now()
    assert ada("GET", "/auth/me")[0] == 403
    assert nobody("POST", "/auth/login", LOGIN)[0] == 403
    assert nobody("POST", "/auth/refresh", {"refresh_token": account["refresh_token"]})[0] == 403
    assert nobody("POST", "/auth/login", {**LOGIN, "password": "wrong one"})[0] == 401


def test_a_new_tier_counts_at_once(ada: Caller, account: dict[str, Any]) -> None:
    with db.transaction() as session:
        user = users.by_email(session, "ADA@example.com")
        assert user is not None
        users.set_tier(session, user.id, "pro")
        with pytest.raises(Invalid):
            users.set_tier(session, user.id, "golden")
    assert ada("GET", "/auth/me")[1]["tier"] == "pro"


def test_a_token_says_what_it_must(account: dict[str, Any]) -> None:
    claims = jwt.decode(account["access_token"], options={"verify_signature": False})
    assert set(claims) >= {"sub", "iat", "exp", "jti", "typ"}
    assert claims["sub"] == account["user"]["id"]
    found = tokens.read(account["access_token"])
    assert found is not None
    assert str(found.user_id) == account["user"]["id"]
