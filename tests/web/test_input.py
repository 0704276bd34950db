"""Whatever a client sends, the answer is right or a problem that tells what is wrong."""

import json
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

PROBLEM = "application/problem+json"


def send(client: FlaskClient, raw: bytes | str, content_type: str = "application/json") -> TestResponse:
    return client.post("/probes/echo", data=raw, content_type=content_type)


def refused(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.content_type) == (status, PROBLEM), response.text
    document: dict[str, Any] = response.json or {}
    assert {"type", "title", "status", "detail", "code"} <= set(document)
    assert (document["status"], document["code"]) == (status, code)
    return document


def test_a_good_body_is_answered_with_times_in_rfc3339(probes: FlaskClient) -> None:
    owner = "01890a5d-ac96-774b-bcce-b302099a8057"
    response = probes.post("/probes/echo", json={"text": "héllo \U0001f600", "count": 2, "owner": owner})
    assert response.status_code == 200
    answer = response.json or {}
    assert (answer["text"], answer["count"]) == ("héllo \U0001f600", 2)
    assert answer["at"].endswith("Z")
    assert len(answer["at"]) == len("2026-01-31T12:00:00.000Z")


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"",
        b"nonsense",
        b'{"text":"a"} x',
        b'{"text":"\xff"}',
        b'\xef\xbb\xbf{"text":"a"}',
        b'{"text":"a","ratio":NaN}',
        b'{"text":"a","ratio":-Infinity}',
        b'{"text":"a","text":"b"}',
        b'{"text":"a\x00"}',
        b"[" * 100_000,
        b'{"text":"a","count":' + b"9" * 5_000 + b"}",
    ],
)
def test_malformed_json_is_400(probes: FlaskClient, raw: bytes) -> None:
    refused(send(probes, raw), 400, "MALFORMED")


@pytest.mark.parametrize(
    ("raw", "loc"),
    [
        ('{"text":"a","unknown":1}', ["unknown"]),
        ("{}", ["text"]),
        ('{"text":1}', ["text"]),
        ('{"text":"a","count":"1"}', ["count"]),
        ('{"text":"a","count":true}', ["count"]),
        ('{"text":"a","count":1.5}', ["count"]),
        ('{"text":"a","count":11}', ["count"]),
        ('{"text":"a","ratio":1e999}', ["ratio"]),
        ('{"text":"a\\u0000b"}', ["text"]),
        ('{"text":"\\ud800"}', ["text"]),
        ('{"text":"a","tags":["b","\\u0000"]}', ["tags", 1]),
        ('{"text":"a","owner":"nobody"}', ["owner"]),
        ('{"text":"a","due":1700000000}', ["due"]),
        ('{"text":"a","due":"1700000000"}', ["due"]),
        ("[]", []),
        ("null", []),
        ('"text"', []),
        ("12", []),
    ],
)
def test_a_wrong_value_is_422_and_says_where(probes: FlaskClient, raw: str, loc: list[str | int]) -> None:
    document = refused(send(probes, raw), 422, "VALIDATION")
    assert document["errors"][0]["loc"] == loc
    assert set(document["errors"][0]) == {"loc", "msg", "type"}
    assert document["errors"][0]["msg"] in document["detail"] or not loc


def test_a_wrong_value_is_not_repeated(probes: FlaskClient) -> None:
    assert "hunter2" not in send(probes, '{"text":["hunter2"]}').text


def test_a_thousand_wrong_fields_make_a_short_answer(probes: FlaskClient) -> None:
    raw = json.dumps({f"field{n}": n for n in range(1_000)})
    document = refused(send(probes, raw), 422, "VALIDATION")
    assert len(document["errors"]) == 50
    assert document["detail"].endswith("(49 more in `errors`)")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_415(probes: FlaskClient, content_type: str) -> None:
    refused(send(probes, '{"text":"a"}', content_type), 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_huge_body_is_413(probes: FlaskClient) -> None:
    refused(send(probes, b'"' + b"a" * 1_048_577), 413, "TOO_LARGE")


@pytest.mark.parametrize("size", [1_048_577, 3_000_000])
def test_a_huge_body_of_unknown_length_is_413(probes: FlaskClient, size: int) -> None:
    response = probes.post(
        "/probes/echo",
        input_stream=BytesIO(b"a" * size),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    refused(response, 413, "TOO_LARGE")


def test_repeated_parameters_fill_a_list(probes: FlaskClient) -> None:
    response = probes.get("/probes/filter?status=a&status=b&limit=7")
    assert response.json == {"status": ["a", "b"], "limit": 7}
    assert probes.get("/probes/filter?status=a").json == {"status": ["a"], "limit": 20}


def test_times_are_read_with_their_offset(probes: FlaskClient) -> None:
    due = {"text": "a", "due": "2027-01-01T00:00:00.5+01:00"}
    assert probes.post("/probes/echo", json=due).status_code == 200
    assert probes.get("/probes/filter?since=2027-01-01T00:00:00Z").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "limit=x",
        "limit=",
        "limit=1&limit=2",
        "unknown=1",
        "status=%00",
        "limit=1e3",
        "since=0.5",
        "since=1700000000",
        "since=2027-01-01",
        "since=2027-01-01T00:00:00",
    ],
)
def test_wrong_parameters_are_422(probes: FlaskClient, query: str) -> None:
    assert refused(probes.get(f"/probes/filter?{query}"), 422, "VALIDATION")["errors"]
