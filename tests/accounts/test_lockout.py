"""Guessing passwords and codes takes longer and longer, for an account and from an address."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from pingvas import settings
from pingvas.accounts import lockout
from pingvas.embedded.servers import forget_settings
from pingvas.errors import TooMany
from tests.accounts.conftest import EMAIL, PASSWORD, Caller

LOGIN = {"email": EMAIL, "password": PASSWORD}
WRONG = {"email": EMAIL, "password": "not this one"}


@pytest.fixture
def store(broker: str, fresh_settings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator["redis.Redis[str]"]:
    """Redis with nothing counted, and three failures free."""
    monkeypatch.setenv("PINGVAS_LOCKOUT_ATTEMPTS", "3")
    forget_settings()
    client = redis.Redis.from_url(settings.get().events_url, decode_responses=True)
    yield client
    for key in client.scan_iter("pingvas:lockout:*"):
        client.delete(key)
    client.close()


def wait(store: "redis.Redis[str]") -> list[int]:
    """Return the seconds of every lock, and let them pass."""
    keys = list(store.scan_iter("pingvas:lockout:*:lock"))
    waits = [round(int(store.pttl(key)) / 1_000) for key in keys]
    if keys:
        store.delete(*keys)
    return waits


def fails(account: str, address: str | None = None) -> bool:
    """Say whether an attempt is let in; it fails."""
    try:
        lockout.enter(account, address)
    except TooMany:
        return False
    return True


def test_waits_double(store: "redis.Redis[str]") -> None:
    assert all(fails(EMAIL) for _ in range(3))
    waits = []
    for _ in range(8):
        assert fails(EMAIL)
        assert not fails(EMAIL)
        waits += wait(store)
    assert waits == [15, 30, 60, 120, 240, 480, 900, 900]


def test_a_right_password_does_not_get_past_a_wait(
    store: "redis.Redis[str]", ada: Caller, nobody: Caller
) -> None:
    for _ in range(4):
        assert nobody("POST", "/auth/login", WRONG)[0] == 401
    status, problem = nobody("POST", "/auth/login", LOGIN)
    assert (status, problem["code"]) == (429, "RATE_LIMITED")
    wait(store)
    assert nobody("POST", "/auth/login", LOGIN)[0] == 200
    assert [nobody("POST", "/auth/login", WRONG)[0] for _ in range(4)] == [401] * 4


def test_an_unknown_account_waits_just_the_same(
    store: "redis.Redis[str]", ada: Caller, nobody: Caller
) -> None:
    answers = []
    for email in (EMAIL, "nobody@example.com"):
        for _ in range(4):
            nobody("POST", "/auth/login", {**WRONG, "email": email})
        status, problem = nobody("POST", "/auth/login", {**WRONG, "email": f" {email.upper()}"})
        problem.pop("request_id")
        problem["detail"] = re.sub(r"\d+ s", "n s", problem["detail"])  # time goes on between the two
        answers.append((status, problem))
    assert answers[0] == answers[1]
    assert answers[0][0] == 429


def test_many_guesses_at_once_are_as_many_guesses(store: "redis.Redis[str]", clean_db: None) -> None:
    with ThreadPoolExecutor(8) as pool:
        let_in = list(pool.map(lambda _: fails(EMAIL), range(40)))
    assert sum(let_in) == 4


def test_an_address_waits_whichever_accounts_it_tries(store: "redis.Redis[str]") -> None:
    assert sum(fails(f"{n}@example.com", "203.0.113.7") for n in range(40)) == 16
    assert fails("ada@example.com", "203.0.113.8")


def test_an_account_of_ones_own_covers_for_no_guesses(store: "redis.Redis[str]") -> None:
    for n in range(15):
        assert fails(f"{n}@example.com", "203.0.113.7")
    for _ in range(5):
        lockout.enter("eve@example.com", "203.0.113.7")
        lockout.succeeded("eve@example.com", "203.0.113.7")
        assert wait(store) == []
    assert fails("x@example.com", "203.0.113.7")
    assert not fails("y@example.com", "203.0.113.7")


def test_guessing_the_password_of_a_stolen_sign_in_is_counted_too(
    store: "redis.Redis[str]", ada: Caller
) -> None:
    body = {"password": "wrong", "new_password": "a better battery"}
    answers = [ada("POST", "/auth/change-password", body)[0] for _ in range(5)]
    assert answers == [401] * 4 + [429]


@pytest.mark.parametrize("path", ["step-up", "second-factor/remove", "second-factor/recovery-codes"])
def test_guessing_codes_is_counted(
    store: "redis.Redis[str]", ada: Caller, authenticator: object, path: str
) -> None:
    answers = [ada("POST", f"/auth/{path}", {"totp": "000000"})[0] for _ in range(5)]
    assert answers == [403] * 4 + [429]


def test_a_missing_code_is_no_failure(
    store: "redis.Redis[str]", nobody: Caller, authenticator: object
) -> None:
    assert [nobody("POST", "/auth/login", LOGIN)[0] for _ in range(6)] == [403] * 6


def test_without_redis_nobody_waits(
    fresh_settings: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PINGVAS_LOCKOUT_ATTEMPTS", "1")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    forget_settings()
    assert all(fails(EMAIL, "203.0.113.7") for _ in range(3))
    assert "Redis is away" in caplog.text
