"""Who is asking, and may they."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from pingvas import settings
from pingvas.app import create_app
from pingvas.embedded.servers import forget_settings

Bearer = Callable[..., dict[str, str]]
ACCOUNT = {"email": "ada@example.com", "password": "correct horse"}


@pytest.fixture
def csrf(client: FlaskClient) -> str:
    """Sign `client` in with a cookie; return the CSRF token."""
    answer = client.post("/api/v1/auth/register", json=ACCOUNT).json or {}
    return str(answer["csrf_token"])


def test_nobody_is_401(client: FlaskClient) -> None:
    response = client.get("/api/v1/auth/me")
    assert (response.status_code, (response.json or {})["code"]) == (401, "UNAUTHORIZED")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_session_cookie_is_enough_to_read(client: FlaskClient, csrf: str) -> None:
    response = client.get("/api/v1/auth/me")
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers


def test_cookies_are_closed_to_scripts_and_other_sites(client: FlaskClient) -> None:
    plain = client.post("/api/v1/auth/register", json=ACCOUNT).headers.getlist("Set-Cookie")
    session = next(cookie for cookie in plain if cookie.startswith("pingvas_session="))
    readable = next(cookie for cookie in plain if cookie.startswith("csrf_token="))
    assert "HttpOnly" in session
    assert "SameSite=Lax" in session
    assert "HttpOnly" not in readable
    secure = client.post("/api/v1/auth/login", json=ACCOUNT, base_url="https://localhost")
    assert all("Secure" in cookie for cookie in secure.headers.getlist("Set-Cookie"))


@pytest.mark.parametrize("token", [None, "", "x", "é"])
def test_a_change_by_cookie_needs_the_csrf_token(client: FlaskClient, csrf: str, token: str | None) -> None:
    headers = {} if token is None else {"X-CSRF-Token": token}
    response = client.post("/api/v1/api-keys", json={"name": "a"}, headers=headers)
    assert (response.status_code, (response.json or {})["code"]) == (403, "FORBIDDEN")
    assert client.post("/api/v1/auth/logout", headers=headers).status_code == 403


def test_the_csrf_token_is_in_the_answer_and_in_a_cookie(client: FlaskClient, csrf: str) -> None:
    cookie = client.get_cookie("csrf_token")
    assert cookie is not None
    assert cookie.value == csrf
    response = client.post("/api/v1/api-keys", json={"name": "a"}, headers={"X-CSRF-Token": csrf})
    assert response.status_code == 201


def test_a_header_wins_over_a_cookie_even_when_it_is_bad(
    client: FlaskClient, csrf: str, bearer: Bearer
) -> None:
    other = client.get("/api/v1/auth/me", headers=bearer("other@example.com"))
    assert (other.json or {})["email"] == "other@example.com"
    for bad in (
        "Bearer nonsense",
        "Bearer",
        "Basic YTpi",
        "",
        "Bearer pv_nonsense",
        "Bearer \u00e9.\u00e9",
    ):
        assert client.get("/api/v1/auth/me", headers={"Authorization": bad}).status_code == 401, bad


def test_a_forged_cookie_is_401(app: Flask) -> None:
    client = app.test_client()
    client.set_cookie("pingvas_session", "eyJfdXNlcl9pZCI6IngifQ.aaaaaa.bbbbbbbb")
    assert client.get("/api/v1/auth/me").status_code == 401


@pytest.mark.parametrize(
    "secret",
    ["", "short", "change-me-change-me-change-me-change-me", "a" * 64, "your-secret-key-goes-in-here-please"],
)
@pytest.mark.usefixtures("fresh_settings")
def test_a_short_or_placeholder_secret_stops_the_start(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("PINGVAS_SECRET_KEY", secret)
    forget_settings()
    with pytest.raises(settings.SettingsError, match="PINGVAS_SECRET_KEY"):
        create_app()


@pytest.mark.usefixtures("fresh_settings")
def test_a_developer_may_use_a_weak_secret(monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    monkeypatch.setenv("PINGVAS_SECRET_KEY", "change-me")
    monkeypatch.setenv("PINGVAS_DEVELOPMENT", "true")
    assert create_app().secret_key == "change-me"
