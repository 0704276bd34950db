"""What browsers are told: nothing is framed, guessed or leaked, and only listed sites may read answers."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from pingvas import settings
from pingvas.app import create_app
from pingvas.embedded.servers import forget_settings

LISTED = "https://app.example.com"


@pytest.fixture
def listed(
    clean_db: None, fresh_settings: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], FlaskClient]:
    """Return a client of an app that lists these origins."""

    def make(origins: str) -> FlaskClient:
        monkeypatch.setenv("PINGVAS_CORS_ORIGINS", origins)
        forget_settings()
        return create_app().test_client()

    return make


@pytest.mark.parametrize(
    "path", ["/healthz", "/api/docs", "/api/openapi.json", "/api/v1/auth/me", "/nowhere"]
)
def test_every_answer_carries_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Strict-Transport-Security" not in headers
    assert "Access-Control-Allow-Origin" not in headers


def test_browsers_are_bound_to_https_over_https_only(client: FlaskClient) -> None:
    answer = client.get("/healthz", base_url="https://localhost")
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")


def test_no_origin_is_allowed_by_default(client: FlaskClient) -> None:
    asked = {"Origin": LISTED, "Access-Control-Request-Method": "POST"}
    for answer in (client.options("/api/v1/generate", headers=asked), client.get("/healthz", headers=asked)):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


def test_a_listed_origin_may_call_and_read(listed: Callable[[str], FlaskClient]) -> None:
    client = listed(f"{LISTED}, http://localhost:5173")
    asked = {
        "Origin": LISTED,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
    }
    preflight = client.options("/api/v1/generate", headers=asked)
    assert preflight.headers["Access-Control-Allow-Origin"] == LISTED
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert (
        preflight.headers["Access-Control-Allow-Headers"].lower()
        == "authorization, content-type, idempotency-key"
    )
    refused = client.get("/api/v1/auth/me", headers={"Origin": LISTED})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == LISTED
    assert "Origin" in refused.headers["Vary"]
    assert "RateLimit" in refused.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in refused.headers  # the cookie stays out of it


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com.evil.net",
        "https://evil-app.example.com",
        "https://appXexample.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "null",
        "https://app.example.com/",
    ],
)
def test_what_only_looks_like_a_listed_origin_is_not(
    listed: Callable[[str], FlaskClient], origin: str
) -> None:
    answer = listed(LISTED).get("/healthz", headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "origins",
    ["*", "https://*.example.com", "app.example.com", "https://app.example.com/", "null", "https://a.b,*"],
)
def test_a_pattern_is_no_origin(fresh_settings: None, monkeypatch: pytest.MonkeyPatch, origins: str) -> None:
    monkeypatch.setenv("PINGVAS_CORS_ORIGINS", origins)
    with pytest.raises(settings.SettingsError, match="PINGVAS_CORS_ORIGINS"):
        settings.get()
