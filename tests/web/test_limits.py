"""Every limit at its edge: the nth call passes, the next is refused, and time frees a place."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from flask import g
from flask.testing import FlaskClient

from pingvas import settings
from pingvas.app import create_app
from pingvas.billing import plans
from pingvas.embedded.servers import forget_settings
from pingvas.web import limits, windows
from pingvas.web.api import Blueprint, Reply, endpoint
from pingvas.web.auth import Principal
from pingvas.web.windows import Policy

Headers = dict[str, str]
ADDRESS = {"REMOTE_ADDR": "203.0.113.7"}
PASSWORD = "correct horse"


class Clock:
    """The clock of the limits, moved by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Moved:
    """What `windows` knows as `clock`; the others keep theirs, or tokens would be from the future."""

    def __init__(self, hands: Clock) -> None:
        self._hands = hands

    def now(self) -> datetime:
        return self._hands.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(windows, "clock", Moved(moved))
    return moved


@pytest.fixture
def client(
    clean_db: None, hands: Clock, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> FlaskClient:
    """A client of an application with the limits as shipped, on an empty Redis."""
    monkeypatch.delenv("PINGVAS_LOGIN_ATTEMPTS")
    forget_settings()
    store = redis.Redis.from_url(settings.get().events_url)
    for key in store.scan_iter(f"{windows.PREFIX}:*"):
        store.delete(key)
    store.close()
    bp = Blueprint("limited", tag="Limited", url_prefix="/limited")

    @bp.post("/ping")
    @endpoint(status=204)
    def ping() -> None:
        """Write."""

    @bp.get("/ping")
    @endpoint(reply=Reply)
    def pong() -> Reply:
        """Read."""
        return Reply()

    @bp.post("/webhook")
    @endpoint(status=204, public=True, limit="none")
    def webhook() -> None:
        """Take what comes."""

    app = create_app()
    app.register_blueprint(bp)
    return app.test_client(use_cookies=False)


def login(client: FlaskClient, email: str, password: str = "wrong") -> tuple[int, str]:
    answer = client.post("/api/v1/auth/login", json={"email": email, "password": password})
    return answer.status_code, answer.headers.get("Retry-After", "")


def test_the_sixth_failed_sign_in_within_five_minutes_is_refused(
    client: FlaskClient, hands: Clock, bearer: Callable[[str], Headers]
) -> None:
    bearer("ada@example.com")
    for _ in range(5):
        assert login(client, "ada@example.com")[0] == 401
        hands.move(10)
    assert login(client, "ada@example.com", PASSWORD) == (429, "250")
    hands.move(249.999)
    assert login(client, "ada@example.com", PASSWORD)[0] == 429
    hands.move(0.001)
    assert login(client, "ada@example.com")[0] == 401
    assert login(client, "ada@example.com") == (429, "10")


def test_a_sign_in_that_succeeds_is_not_counted(
    client: FlaskClient, bearer: Callable[[str], Headers]
) -> None:
    bearer("ada@example.com")
    for _ in range(7):
        assert login(client, "ada@example.com", PASSWORD)[0] == 200


@pytest.mark.parametrize(("tier", "most"), [("free", 6), ("starter", 12), ("pro", 30), ("studio", 120)])
def test_a_plan_says_how_often_its_user_may_generate(client: FlaskClient, tier: str, most: int) -> None:
    assert plans.of(tier).generate_per_minute == most
    user = str(uuid4())
    with client.application.test_request_context(method="POST"):
        rules = [rule.policy for rule in limits._rules("generate", principal(tier))]
    assert rules == [Policy("generate", most, 60)]
    taken = [windows.take(rules[0], user) for _ in range(most + 1)]
    assert [place.remaining for place in taken if place] == [*range(most - 1, -1, -1), -1]


def test_enterprise_generates_without_limit(client: FlaskClient) -> None:
    with client.application.test_request_context(method="POST"):
        assert limits._rules("generate", principal("enterprise")) == []


def principal(tier: str) -> Principal:
    return Principal(uuid4(), "ada@example.com", tier, "user", "token")


def test_the_seventh_generate_call_of_a_free_user_is_refused(
    client: FlaskClient, hands: Clock, bearer: Callable[[str], Headers]
) -> None:
    mine, other = bearer("ada@example.com"), bearer("bob@example.com")
    body = {"prompt": "a red circle", "model": "no-such-model"}
    for left in range(5, -1, -1):
        path = "generate" if left % 2 else "generation/create"
        answer = client.post(f"/api/v1/{path}", json=body, headers=mine)
        assert (answer.status_code, answer.headers["RateLimit"]) == (422, f'"generate";r={left};t=60')
        assert answer.headers["RateLimit-Policy"] == '"generate";q=6;w=60'
    hands.move(15)
    answer = client.post("/api/v1/generate", json=body, headers=mine)
    assert (answer.status_code, answer.get_json()["code"]) == (429, "RATE_LIMITED")
    assert answer.headers["Retry-After"] == "45"
    assert answer.headers["RateLimit"] == '"generate";r=0;t=45'
    assert client.post("/api/v1/generate", json=body, headers=other).status_code == 422
    hands.move(45)
    assert client.post("/api/v1/generate", json=body, headers=mine).status_code == 422


def test_a_repeated_call_counts_once(client: FlaskClient, bearer: Callable[[str], Headers]) -> None:
    mine = bearer("ada@example.com")
    body = {"prompt": "a red circle", "model": "tiny"}
    answers = [
        client.post("/api/v1/generate", json=body, headers=mine | {"Idempotency-Key": "once"})
        for _ in range(8)
    ]
    assert [answer.status_code for answer in answers] == [202] * 8
    assert len({answer.get_json()["job_id"] for answer in answers}) == 1
    answer = client.post("/api/v1/generate", json=body, headers=mine)
    assert (answer.status_code, answer.headers["RateLimit"]) == (202, '"generate";r=4;t=60')


def test_what_is_not_well_formed_is_not_counted(
    client: FlaskClient, bearer: Callable[[str], Headers]
) -> None:
    mine = bearer("ada@example.com")
    for _ in range(8):
        assert client.post("/api/v1/generate", json={"prompt": ""}, headers=mine).status_code == 422
    answer = client.post("/api/v1/quote", json={"prompt": "a circle"}, headers=mine)
    assert (answer.status_code, answer.headers["RateLimit"]) == (200, '"read";r=1199;t=60')


def test_writes_are_limited_and_reads_apart(
    client: FlaskClient, hands: Clock, bearer: Callable[[str], Headers]
) -> None:
    mine = bearer("ada@example.com")
    statuses = [client.post("/limited/ping", headers=mine).status_code for _ in range(101)]
    assert statuses == [204] * 100 + [429]
    answer = client.get("/limited/ping", headers=mine)
    assert (answer.status_code, answer.headers["RateLimit"]) == (200, '"read";r=1199;t=60')
    hands.move(60)
    assert client.post("/limited/ping", headers=mine).status_code == 204


def test_an_address_without_an_account_may_change_fifty_things_a_minute(client: FlaskClient) -> None:
    def register(address: str) -> int:
        body = {"email": "no address", "password": PASSWORD}
        return client.post(
            "/api/v1/auth/register", json=body, environ_overrides={"REMOTE_ADDR": address}
        ).status_code

    assert [register("203.0.113.7") for _ in range(51)] == [422] * 50 + [429]
    assert register("203.0.113.8") == 422
    assert {register("127.0.0.1") for _ in range(51)} == {422}  # a developer's own machine
    networks = [f"2001:db8:0:1::{number:x}" for number in range(51)]
    assert [register(address) for address in networks] == [422] * 50 + [429]


def test_reading_without_an_account_and_webhooks_are_not_limited(client: FlaskClient) -> None:
    for _ in range(60):
        answer = client.get("/api/v1/plans", environ_overrides=ADDRESS)
        assert (answer.status_code, "RateLimit" in answer.headers) == (200, False)
        assert client.post("/limited/webhook", environ_overrides=ADDRESS).status_code == 204


def test_questions_on_behalf_of_a_waiting_client_are_not_counted(client: FlaskClient) -> None:
    scope = {"asgi.scope": {limits.INTERNAL: True}}
    with client.application.test_request_context("/limited/ping", environ_overrides=scope):
        limits.take("ordinary", principal("free"))
        assert "limits" not in g


def test_a_place_is_given_back() -> None:
    policy, who = Policy("test", 1, 60), str(uuid4())
    taken = windows.take(policy, who)
    assert taken is not None
    windows.give_back(taken)
    again = windows.take(policy, who)
    assert again is not None
    assert again.remaining == 0


def test_calls_that_ask_together_are_counted_though_redis_forgot_the_script(broker: str) -> None:
    policy, who = Policy("test", 2, 60), str(uuid4())
    call = (f"{windows.PREFIX}:test:{who}", 1_000, policy)
    server: Any = redis.Redis.from_url(broker)  # whose calls are not typed
    for left in ([1, 0], [-1, -1]):
        server.script_flush()
        assert [reply[0] for reply in windows._run(settings.get().events_url, [call, call])] == left


@pytest.fixture
def no_redis(fresh_settings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(windows, "_outage", windows._Outage())
    forget_settings()
    yield
    monkeypatch.delenv("REDIS_URL")
    forget_settings()


@pytest.mark.usefixtures("no_redis")
def test_an_outage_limits_nobody_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    policy = Policy("test", 1, 60)
    assert [windows.take(policy, "somebody") for _ in range(3)] == [None] * 3
    windows._outage._until = 0.0
    assert windows.take(policy, "somebody") is None
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "rates are not limited, Redis is away"
    ]
