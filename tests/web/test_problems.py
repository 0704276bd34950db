"""Every error has the same shape, and tells nothing of the inside."""

import logging
from threading import Event

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import create_engine

from pingvas import db
from pingvas.web import health, problem, request_id

PROBLEM = problem.MEDIA_TYPE


def test_an_unknown_path_is_a_problem(client: FlaskClient) -> None:
    response = client.get("/api/v1/nowhere")
    assert (response.status_code, response.content_type) == (404, PROBLEM)
    document = response.json or {}
    assert document.pop("request_id") == response.headers["X-Request-Id"]
    assert document == {
        "type": "urn:pingvas:problem:not-found",
        "title": "There is no such thing here",
        "status": 404,
        "detail": "There is no such thing here",
        "code": "NOT_FOUND",
    }


def test_a_wrong_method_is_a_problem_that_names_the_right_one(client: FlaskClient) -> None:
    response = client.put("/api/v1/auth/login")
    assert (response.status_code, response.content_type) == (405, PROBLEM)
    assert (response.json or {})["code"] == "METHOD_NOT_ALLOWED"
    assert "POST" in response.headers["Allow"]


def test_a_bug_is_logged_and_told_without_its_inside(
    probes: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        response = probes.post("/probes/broken", headers={"X-Request-Id": "abc-1"})
    assert (response.status_code, response.content_type) == (500, PROBLEM)
    assert "secret" not in response.text
    assert "abc-1" in caplog.text
    assert "a secret of the inside" in caplog.text


def test_a_lost_database_is_503(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing?connect_timeout=1")
    monkeypatch.setattr(db, "engine", lambda: nowhere)
    response = client.post("/api/v1/auth/login", json={"email": "a@example.com", "password": "secret"})
    assert (response.status_code, response.content_type) == (503, PROBLEM)
    assert int(response.headers["Retry-After"]) > 0
    assert "127.0.0.1" not in response.text


@pytest.mark.parametrize(
    ("given", "kept"), [("aB3._-", True), ("a b", False), ("x" * 65, False), ("", False)]
)
def test_a_sane_request_id_is_kept(client: FlaskClient, given: str, kept: bool) -> None:
    answered = client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"]
    assert (answered == given) is kept
    assert answered


def test_answers_carry_security_headers(client: FlaskClient) -> None:
    headers = client.get("/healthz").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Vary" not in headers


def test_ready_when_every_part_answers(client: FlaskClient) -> None:
    assert client.get("/healthz").json == {"status": "ok"}
    response = client.get("/readyz")
    assert response.json == {"status": "ok", "checks": {"database": "ok", "broker": "ok", "store": "ok"}}


def test_not_ready_names_the_part_and_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise ConnectionError("at 10.0.0.7")

    never = Event()
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.2)
    app = APIFlask("probe", json_errors=False)
    problem.init_app(app)
    request_id.init_app(app)
    health.init_app(app, {"fine": lambda: None, "gone": refuse, "slow": lambda: never.wait(5)})
    response = app.test_client().get("/readyz")
    never.set()
    assert response.status_code == 503
    checks = (response.json or {})["checks"]
    assert checks == {"fine": "ok", "gone": "ConnectionError", "slow": "no answer within 0.2 s"}
    assert "10.0.0.7" not in response.text
