"""A request that is sent twice is done once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from pingvas import clock, db, settings
from pingvas.accounts.models import ApiKey
from pingvas.web import idempotency
from pingvas.web.models import IdempotencyKey

Bearer = Callable[..., dict[str, str]]


def made() -> int:
    with db.transaction() as session:
        return session.scalar(select(func.count()).select_from(ApiKey)) or 0


def post(client: FlaskClient, headers: dict[str, str], key: str, **body: object) -> TestResponse:
    return client.post(
        "/probes/keys", json={"name": "a", **body}, headers={**headers, "Idempotency-Key": key}
    )


def test_the_first_answer_comes_again(probes: FlaskClient, bearer: Bearer) -> None:
    headers = bearer()
    first, again = post(probes, headers, "k"), post(probes, headers, "k")
    assert (first.status_code, again.status_code, made()) == (201, 201, 1)
    assert first.data == again.data
    assert again.headers["Location"] == first.headers["Location"] == "/probes/1"
    assert again.content_type == "application/json"
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"


def test_without_a_key_each_request_counts(probes: FlaskClient, bearer: Bearer) -> None:
    headers = bearer()
    for _ in range(2):
        assert probes.post("/probes/keys", json={"name": "a"}, headers=headers).status_code == 201
    assert made() == 2


def test_another_body_is_refused(probes: FlaskClient, bearer: Bearer) -> None:
    headers = bearer()
    post(probes, headers, "k")
    response = post(probes, headers, "k", name="b")
    assert (response.status_code, (response.json or {})["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    assert made() == 1


def test_the_same_json_written_anew_is_the_same_body(probes: FlaskClient, bearer: Bearer) -> None:
    headers = {**bearer(), "Idempotency-Key": "k", "Content-Type": "application/json"}
    written = ['{"name":"a"}', '{ "name" : "\\u0061"\n}']
    answers = [probes.post("/probes/keys", data=text, headers=headers) for text in written]
    assert [answer.status_code for answer in answers] == [201, 201], answers[0].text
    assert (answers[0].data, made()) == (answers[1].data, 1)


def test_keys_belong_to_an_account(probes: FlaskClient, bearer: Bearer) -> None:
    post(probes, bearer("a@example.com"), "k")
    other = post(probes, bearer("b@example.com"), "k")
    assert other.status_code == 201
    assert "Idempotent-Replayed" not in other.headers


def test_an_error_is_undone_and_not_remembered(probes: FlaskClient, bearer: Bearer) -> None:
    headers = bearer()
    assert post(probes, headers, "k", fail=True).status_code == 409
    assert made() == 0
    assert post(probes, headers, "k").status_code == 201


def test_a_second_request_meanwhile_is_409(probes: FlaskClient, bearer: Bearer, gate: Any) -> None:
    headers = bearer()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, probes.application.test_client(), headers, "k", wait=True)
        assert gate.entered.wait(10)
        second = post(probes, headers, "k", wait=True)
        gate.leave.set()
        assert first.result().status_code == 201
    assert (second.status_code, (second.json or {})["code"]) == (409, "REQUEST_IN_FLIGHT")
    assert post(probes, headers, "k", wait=True).headers["Idempotent-Replayed"] == "true"
    assert made() == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb", "schlüssel"])
def test_a_strange_key_is_422(probes: FlaskClient, bearer: Bearer, key: str) -> None:
    assert post(probes, bearer(), key).status_code == 422
    assert made() == 0


def test_a_key_is_forgotten_after_its_time(
    probes: FlaskClient, bearer: Bearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = bearer()
    post(probes, headers, "k")
    with db.transaction() as session:
        kept = session.scalars(select(IdempotencyKey)).one()
        kept.created_at = clock.now() - timedelta(seconds=settings.get().idempotency_seconds + 1)
    again = post(probes, headers, "k", name="b")
    assert (again.status_code, made()) == (201, 2)
    assert idempotency.expire() == 0
    with db.transaction() as session:
        session.scalars(select(IdempotencyKey)).one().created_at -= timedelta(days=365)
    assert (idempotency.expire(), idempotency.expire()) == (1, 0)
