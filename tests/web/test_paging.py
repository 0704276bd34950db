"""Lists come in pages that neither skip nor repeat a row."""

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.http import parse_options_header

Bearer = Callable[..., dict[str, str]]
URL = "/api/v1/api-keys"


@pytest.fixture
def headers(client: FlaskClient, bearer: Bearer) -> dict[str, str]:
    found = bearer()
    for number in range(5):
        assert client.post(URL, json={"name": f"key {number}"}, headers=found).status_code == 201
    return found


def get(client: FlaskClient, headers: dict[str, str], url: str = URL) -> dict[str, Any]:
    response = client.get(url, headers=headers)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json or {}
    return document


def test_pages_hold_everything_once_newest_first(client: FlaskClient, headers: dict[str, str]) -> None:
    seen: list[str] = []
    url: str = f"{URL}?limit=2"
    while True:
        response = client.get(url, headers=headers)
        seen += [item["name"] for item in (response.json or {})["items"]]
        if (response.json or {})["next_cursor"] is None:
            assert "Link" not in response.headers
            break
        target, options = parse_options_header(response.headers["Link"])
        assert options["rel"] == "next"
        url = target.strip("<>")
        client.post(URL, json={"name": "newer"}, headers=headers)  # rows that come meanwhile shift nothing
    assert seen == [f"key {number}" for number in (4, 3, 2, 1, 0)]


def test_times_in_a_page_are_rfc3339(client: FlaskClient, headers: dict[str, str]) -> None:
    assert get(client, headers)["items"][0]["created_at"].endswith("Z")


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "9" * 30])
def test_the_limit_has_limits(client: FlaskClient, headers: dict[str, str], limit: str) -> None:
    assert client.get(f"{URL}?limit={limit}", headers=headers).status_code == 422


def test_a_tampered_cursor_is_422(client: FlaskClient, headers: dict[str, str]) -> None:
    good = get(client, headers, f"{URL}?limit=1")["next_cursor"]
    assert get(client, headers, f"{URL}?cursor={good}")["items"]
    forged = base64.urlsafe_b64encode(b'12345678[["v",1],["v",2]]').decode()
    flipped = [good[:n] + ("A" if good[n] != "A" else "B") + good[n + 1 :] for n in range(len(good))]
    for bad in ("", "x", "é", "%00", good[:-1], good + "A", good + "=", forged, "A" * 5_000, *flipped):
        response = client.get(f"{URL}?cursor={quote(bad)}", headers=headers)
        assert response.status_code == 422, bad


def test_the_cursor_of_another_list_is_422(client: FlaskClient, headers: dict[str, str]) -> None:
    good = get(client, headers, f"{URL}?limit=1")["next_cursor"]
    assert client.get(f"/api/v1/credits/transactions?cursor={good}", headers=headers).status_code == 422
