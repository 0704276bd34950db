"""Signing in with Google (a real OpenID Connect server) and Discord (OAuth 2.0 and a userinfo call)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import flask
import pyotp
import pytest
import requests
from flask.testing import FlaskClient
from oidc_provider_mock import run_server_in_thread  # type: ignore[import-untyped]
from sqlalchemy import text
from werkzeug.serving import make_server

from pingvas import clock, db
from pingvas.app import create_app
from pingvas.embedded.servers import forget_settings
from tests.accounts.conftest import EMAIL, PASSWORD

Answer = tuple[int, dict[str, Any]]


class Browser:
    """A browser that knows where the API and the providers are."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def begin(self, provider: str, **query: str) -> str:
        """Start a sign-in; return the provider's address that the browser is sent to."""
        response = self.client.get(f"/api/v1/oauth/{provider}/login", query_string=query)
        assert response.status_code == 302, response.text
        return response.headers["Location"]

    def lands(self, callback: str) -> str:
        """Come back from the provider; return where the browser is sent."""
        parts = urlsplit(callback)
        response = self.client.get(f"{parts.path}?{parts.query}")
        assert (response.status_code, response.data) == (302, b""), response.text
        return response.headers["Location"]

    def end(self, callback: str) -> Answer:
        """Come back from the provider."""
        parts = urlsplit(callback)
        response = self.client.get(f"{parts.path}?{parts.query}")
        return response.status_code, response.json or {}


def approve(url: str, subject: str) -> str:
    """Agree at the OpenID Connect server as `subject`; return where it sends the browser."""
    response = requests.post(url, data={"sub": subject}, allow_redirects=False, timeout=10)
    assert response.status_code == 302, response.text
    return response.headers["Location"]


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    """The address of an OpenID Connect server."""
    with run_server_in_thread() as server:
        yield f"http://localhost:{server.server_port}"


@dataclass
class Discord:
    """What the server below says of whoever asks, and what it was asked."""

    user: dict[str, Any] = field(default_factory=dict)
    challenge: str = ""
    verifier: str = ""
    url: str = ""

    def approve(self, url: str) -> str:
        """Agree; return where the browser is sent."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        self.challenge = asked["code_challenge"]
        return f"{asked['redirect_uri']}?{urlencode({'code': 'the-code', 'state': asked['state']})}"


@contextmanager
def serving(app: flask.Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def discord() -> Iterator[Discord]:
    """A server that speaks as much of Discord's protocol as a sign-in needs."""
    state, app = Discord(), flask.Flask("discord")

    @app.post("/api/oauth2/token")
    def token() -> Any:
        state.verifier = flask.request.form["code_verifier"]
        if flask.request.form["code"] != "the-code":
            return {"error": "invalid_grant"}, 400
        return {"access_token": "the-token", "token_type": "Bearer", "expires_in": 604_800}

    @app.get("/api/users/@me")
    def me() -> Any:
        if flask.request.headers["Authorization"] != "Bearer the-token":
            return {"message": "401: Unauthorized"}, 401
        return state.user

    with serving(app) as state.url:
        yield state


@pytest.fixture
def browser(
    clean_db: None,
    google: str,
    discord: Discord,
    fresh_settings: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Browser:
    for name, value in {
        "GOOGLE_ID": "pingvas",
        "GOOGLE_SECRET": "s3cret",
        "GOOGLE_METADATA_URL": f"{google}/.well-known/openid-configuration",
        "DISCORD_ID": "pingvas",
        "DISCORD_SECRET": "s3cret",
        "DISCORD_URL": discord.url,
    }.items():
        monkeypatch.setenv(f"PINGVAS_OAUTH_{name}", value)
    forget_settings()
    return Browser(create_app().test_client())


@pytest.fixture
def person(google: str) -> Callable[..., str]:
    """Make somebody known at the OpenID Connect server; return the subject."""

    def make(subject: str = "google-ada", *, verified: object = True, email: str = EMAIL) -> str:
        claims = {"email": email, "email_verified": verified, "name": "Ada at Google"}
        requests.put(f"{google}/users/{subject}", json=claims, timeout=10).raise_for_status()
        return subject

    return make


def sign_in(browser: Browser, subject: str) -> Answer:
    return browser.end(approve(browser.begin("google"), subject))


def count(table: str) -> int:
    with db.transaction() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def test_a_first_sign_in_opens_an_account_without_a_password(
    browser: Browser, person: Callable[..., str]
) -> None:
    status, answer = sign_in(browser, person())
    assert status == 200, answer
    user = answer["user"]
    assert (user["email"], user["name"], user["tier"]) == (EMAIL, "Ada at Google", "free")
    assert user["email_verified_at"] is not None
    assert browser.client.get("/api/v1/auth/me").json == user  # by the cookie
    with db.transaction() as session:
        assert session.scalar(text("SELECT password_hash FROM users")) is None
    login = browser.client.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert login.status_code == 401


def test_the_next_sign_in_is_the_same_account_even_under_another_address(
    browser: Browser, person: Callable[..., str]
) -> None:
    first = sign_in(browser, person())[1]["user"]["id"]
    status, again = sign_in(browser, person(email="moved@example.com", verified=False))
    assert (status, again["user"]["id"], again["user"]["email"]) == (200, first, EMAIL)
    assert count("users") == count("identities") == 1
    assert count("mails") == 0


def test_the_request_carries_state_nonce_and_pkce(browser: Browser) -> None:
    asked = parse_qs(urlsplit(browser.begin("google")).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert all(len(asked[name][0]) >= 20 for name in ("state", "nonce", "code_challenge"))
    assert asked["redirect_uri"] == ["http://localhost/api/v1/oauth/google/callback"]


def test_a_verified_account_is_linked_and_its_owner_told(
    browser: Browser, person: Callable[..., str]
) -> None:
    account = (
        browser.client.post("/api/v1/auth/register", json={"email": EMAIL, "password": PASSWORD}).json or {}
    )
    with db.transaction() as session:
        session.execute(text("UPDATE users SET email_verified_at = now()"))
    status, answer = sign_in(browser, person())
    assert (status, answer["user"]["id"]) == (200, account["user"]["id"])
    assert sign_in(browser, person())[0] == 200
    assert count("users") == count("mails WHERE template = 'provider-linked'") == 1


def test_an_account_that_a_squatter_opened_is_not_linked(
    browser: Browser, person: Callable[..., str]
) -> None:
    browser.client.post("/api/v1/auth/register", json={"email": EMAIL, "password": PASSWORD})
    status, problem = sign_in(browser, person())
    assert (status, problem["code"]) == (409, "EMAIL_TAKEN")
    assert count("identities") == 0


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_an_address_that_the_provider_has_not_verified_opens_and_links_nothing(
    browser: Browser, person: Callable[..., str], verified: object
) -> None:
    browser.client.post("/api/v1/auth/register", json={"email": EMAIL, "password": PASSWORD})
    with db.transaction() as session:
        session.execute(text("UPDATE users SET email_verified_at = now()"))
    status, problem = sign_in(browser, person(verified=verified))
    assert (status, problem["code"]) == (403, "EMAIL_NOT_VERIFIED")
    assert (count("users"), count("identities")) == (1, 0)


def test_a_second_identity_of_a_provider_does_not_get_the_account(
    browser: Browser, person: Callable[..., str]
) -> None:
    sign_in(browser, person())
    status, problem = sign_in(browser, person("google-eve"))
    assert (status, problem["code"]) == (409, "CONFLICT")


def test_a_browser_can_end_at_a_page(browser: Browser, person: Callable[..., str]) -> None:
    callback = approve(browser.begin("google", next="/welcome?from=google"), person())
    assert browser.lands(callback) == "/welcome?from=google"
    assert (browser.client.get("/api/v1/auth/me").json or {})["email"] == EMAIL
    assert sign_in(browser, person())[0] == 200, "the place was for one sign-in"


def test_what_goes_wrong_is_told_in_the_fragment(browser: Browser, person: Callable[..., str]) -> None:
    callback = approve(browser.begin("google", next="/"), person(verified=False))
    assert browser.lands(callback) == "/#code=EMAIL_NOT_VERIFIED"
    state = parse_qs(urlsplit(browser.begin("google", next="/a")).query)["state"][0]
    query = urlencode({"error": "access_denied", "state": state})
    assert browser.lands(f"/api/v1/oauth/google/callback?{query}") == "/a#code=PROVIDER_REFUSED"
    assert browser.client.get("/api/v1/auth/me").status_code == 401


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "javascript:alert(1)",
        "evil",
        "",
        "/\t/evil.example",
        "/a\r\nSet-Cookie: x=y",
        "/a#code=x",
        "/a\n",
    ],
)
def test_a_browser_ends_on_this_host_only(browser: Browser, place: str) -> None:
    response = browser.client.get("/api/v1/oauth/google/login", query_string={"next": place})
    assert (response.status_code, (response.json or {})["code"]) == (422, "VALIDATION")


def test_a_state_works_once(browser: Browser, person: Callable[..., str]) -> None:
    callback = approve(browser.begin("google"), person())
    assert browser.end(callback)[0] == 200
    status, problem = browser.end(callback)
    assert (status, problem["code"]) == (401, "PROVIDER_REFUSED")


def test_a_state_is_good_in_its_own_browser_only(browser: Browser, person: Callable[..., str]) -> None:
    callback = approve(browser.begin("google"), person())
    victim = Browser(browser.client.application.test_client())
    assert victim.end(callback)[0] == 401
    assert victim.client.get("/api/v1/auth/me").status_code == 401


@pytest.mark.parametrize("query", ["", "code=x", "state=x", "code=x&state=x", "error=access_denied&state=x"])
def test_a_callback_out_of_nowhere_is_401(browser: Browser, query: str) -> None:
    status, problem = browser.end(f"/api/v1/oauth/google/callback?{query}")
    assert (status, problem["code"]) == (401, "PROVIDER_REFUSED")


def test_a_stolen_code_is_of_no_use_in_another_sign_in(browser: Browser, person: Callable[..., str]) -> None:
    """A code of the victim's sign-in, put into the attacker's: its nonce is not the attacker's."""
    stolen = parse_qs(urlsplit(approve(browser.begin("google"), person())).query)["code"][0]
    attacker = Browser(browser.client.application.test_client())
    state = parse_qs(urlsplit(attacker.begin("google")).query)["state"][0]
    query = urlencode({"code": stolen, "state": state})
    status, problem = attacker.end(f"/api/v1/oauth/google/callback?{query}")
    assert (status, problem["code"]) == (401, "PROVIDER_REFUSED")
    assert count("users") == 0


def test_a_session_of_before_does_not_live_on_in_the_new_one(
    browser: Browser, person: Callable[..., str]
) -> None:
    browser.client.post("/api/v1/auth/register", json={"email": "eve@example.com", "password": PASSWORD})
    before = browser.client.get_cookie("csrf_token")
    status, answer = sign_in(browser, person())
    assert status == 200
    assert before is not None
    assert answer["csrf_token"] != before.value
    assert (browser.client.get("/api/v1/auth/me").json or {})["email"] == EMAIL


def test_a_second_factor_is_asked_for_here_too(
    browser: Browser, person: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = sign_in(browser, person())[1]["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    client = browser.client.application.test_client(use_cookies=False)
    enrolled = client.post("/api/v1/auth/second-factor/enrol", headers=headers).json or {}
    totp = pyotp.TOTP(enrolled["secret"])
    code = {"totp": totp.at(clock.now())}
    assert client.post("/api/v1/auth/second-factor/confirm", json=code, headers=headers).status_code == 200
    stranger = Browser(browser.client.application.test_client())
    status, problem = sign_in(stranger, person())
    assert (status, problem["code"]) == (403, "SECOND_FACTOR_REQUIRED")
    assert stranger.client.get("/api/v1/auth/me").status_code == 401
    url, challenge = "/api/v1/auth/login/second-factor", problem["challenge"]
    assert stranger.client.post(url, json={"challenge": challenge, **code}).status_code == 403  # used before
    assert stranger.client.post(url, json={"challenge": token, "totp": "000000"}).status_code == 401
    fresh = totp.at(clock.now() + timedelta(seconds=30))
    answer = stranger.client.post(url, json={"challenge": challenge, "totp": fresh})
    assert answer.status_code == 200
    assert (stranger.client.get("/api/v1/auth/second-factor").json or {})["proved"] is True


def test_a_suspended_account_stays_out(browser: Browser, person: Callable[..., str]) -> None:
    sign_in(browser, person())
    with db.transaction() as session:
        session.execute(text("UPDATE users SET suspended_at = now()"))
    assert sign_in(browser, person())[0] == 403


def test_a_provider_that_is_not_set_up_is_404(client: FlaskClient) -> None:
    for path in ("google/login", "google/callback", "discord/login", "github/login"):
        answer = client.get(f"/api/v1/oauth/{path}")
        assert (answer.status_code, (answer.json or {})["code"]) == (404, "NOT_FOUND"), path
        assert "not set up" in (answer.json or {})["detail"]


def test_a_provider_that_is_away_is_503(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINGVAS_OAUTH_GOOGLE_METADATA_URL", "http://127.0.0.1:1/")
    forget_settings()
    client = create_app().test_client()
    assert client.get("/api/v1/oauth/google/login").status_code == 503


ADA = {"id": "80351110224678912", "username": "ada", "global_name": "Ada", "email": EMAIL, "verified": True}


def test_discord_signs_in_with_pkce(browser: Browser, discord: Discord) -> None:
    discord.user = ADA
    status, answer = browser.end(discord.approve(browser.begin("discord")))
    assert status == 200, answer
    assert (answer["user"]["email"], answer["user"]["name"]) == (EMAIL, "Ada")
    from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]

    assert create_s256_code_challenge(discord.verifier) == discord.challenge


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"verified": False}, "EMAIL_NOT_VERIFIED"),
        ({"verified": None}, "EMAIL_NOT_VERIFIED"),
        ({"email": None}, "EMAIL_NOT_VERIFIED"),
        ({"email": "nonsense"}, "VALIDATION"),
        ({"id": None}, "PROVIDER_REFUSED"),
        ({"id": ""}, "PROVIDER_REFUSED"),
    ],
)
def test_discord_must_vouch_for_the_address(
    browser: Browser, discord: Discord, change: dict[str, Any], code: str
) -> None:
    discord.user = {**ADA, **change}
    status, problem = browser.end(discord.approve(browser.begin("discord")))
    assert status < 500
    assert problem["code"] == code
    assert count("users") == 0


def test_a_code_that_discord_refuses_is_401(browser: Browser, discord: Discord) -> None:
    callback = discord.approve(browser.begin("discord")).replace("the-code", "another")
    status, problem = browser.end(callback)
    assert (status, problem["code"]) == (401, "PROVIDER_REFUSED")


def test_a_state_of_one_provider_is_of_no_use_at_the_other(
    browser: Browser, discord: Discord, person: Callable[..., str]
) -> None:
    callback = approve(browser.begin("google"), person())
    assert browser.end(callback.replace("google", "discord"))[0] == 401
