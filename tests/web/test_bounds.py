"""The edges of what may be sent: the last value that is taken, and the first that is not."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from pingvas.jobs.schema import MAX_BATCH, MAX_PROMPT


@pytest.fixture
def signed_in(client: FlaskClient) -> FlaskClient:
    account = {"email": "ada@example.com", "password": "correct horse battery"}
    token = (client.post("/api/v1/auth/register", json=account).json or {})["access_token"]
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("prompt", "a" * MAX_PROMPT, "a" * (MAX_PROMPT + 1)),
        ("prompt", "\U0001f600" * MAX_PROMPT, "\U0001f600" * (MAX_PROMPT + 1)),
        ("prompt", "a", " \n\t"),
        ("negative_prompt", "a" * MAX_PROMPT, "a" * (MAX_PROMPT + 1)),
        ("num_images", 8, 9),
        ("num_images", 1, 0),
        ("steps", 150, 151),
        ("steps", 1, 0),
        ("seed", 2**63 - 1, 2**63),
        ("seed", 0, -1),
        ("cfg_scale", 30, 30.01),
        ("width", 256, 257),
        ("model", "tiny", "a" * 65),
    ],
)
def test_a_job(signed_in: FlaskClient, field: str, good: Any, bad: Any) -> None:
    taken = signed_in.post("/api/v1/quote", json={"prompt": "a red circle", field: good})
    assert taken.status_code == 200, taken.text
    refused = signed_in.post("/api/v1/quote", json={"prompt": "a red circle", field: bad})
    assert refused.status_code == 422
    assert (refused.json or {})["errors"][0]["loc"] == [field]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "", "9" * 30])
def test_a_page(signed_in: FlaskClient, limit: str) -> None:
    for path in ("jobs", "images", "credits/transactions", "api-keys"):
        assert signed_in.get(f"/api/v1/{path}?limit={limit}").status_code == 422
        assert signed_in.get(f"/api/v1/{path}?limit=100").status_code == 200
        assert signed_in.get(f"/api/v1/{path}?limit=1").status_code == 200


@pytest.mark.parametrize("cursor", ["", "x", "a" * 1_025, "AAAA", "%00", "\u00e9"])
def test_a_cursor(signed_in: FlaskClient, cursor: str) -> None:
    assert signed_in.get(f"/api/v1/jobs?cursor={cursor}").status_code == 422


def test_a_batch(signed_in: FlaskClient) -> None:
    for count in (0, MAX_BATCH + 1):
        answer = signed_in.post("/api/v1/generate/batch", json={"prompts": ["a"] * count})
        assert (answer.status_code, (answer.json or {})["errors"][0]["loc"]) == (422, ["prompts"])


@pytest.mark.parametrize("depth", [50, 500, 5_000, 200_000])
def test_depth_of_json(signed_in: FlaskClient, depth: int) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        raw = '{"prompt":' + opening * depth + "1" + closing * depth + "}"
        answer = signed_in.post("/api/v1/quote", data=raw, content_type="application/json")
        assert answer.status_code in (400, 413, 422)


def test_size_of_a_body(signed_in: FlaskClient) -> None:
    raw = b'{"prompt":"a"' + b" " * 1_048_576 + b"}"
    assert signed_in.post("/api/v1/quote", data=raw, content_type="application/json").status_code == 413
    raw = b'{"prompt":"a"' + b" " * (1_048_576 - 14) + b"}"
    assert len(raw) == 1_048_576
    assert signed_in.post("/api/v1/quote", data=raw, content_type="application/json").status_code == 200


def test_an_id_in_a_path(signed_in: FlaskClient) -> None:
    for text in (
        "x",
        "0",
        "-1",
        "a" * 3_000,
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "%ff",
        "'; DROP TABLE jobs;--",
    ):
        assert signed_in.get(f"/api/v1/jobs/{text}").status_code == 404, text
