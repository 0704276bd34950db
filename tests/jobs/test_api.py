"""The small print of generation over HTTP; no worker runs here."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from pingvas import db
from tests.billing.holds import hold

pytestmark = pytest.mark.usefixtures("clean_db")

PROMPT = {"prompt": "a red circle on a blue background"}


@pytest.fixture
def headers(client: FlaskClient) -> dict[str, str]:
    return sign_up(client, "customer@example.com")


def sign_up(client: FlaskClient, email: str) -> dict[str, str]:
    answer = client.post("/api/v1/auth/register", json={"email": email, "password": "correct horse battery"})
    # A new client each time would be the honest way; a token without the cookie is the same.
    client.delete_cookie("pingvas_session")
    return {"Authorization": f"Bearer {answer.get_json()['access_token']}"}


def count(table: str) -> int:
    with db.transaction() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def test_an_accepted_job_says_where_it_is(client: FlaskClient, headers: dict[str, str]) -> None:
    answer = client.post("/api/v1/generate", json=PROMPT, headers=headers)
    accepted = answer.get_json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == accepted["links"]["self"] == f"/api/v1/jobs/{accepted['job_id']}"
    job = client.get(answer.headers["Location"], headers=headers).get_json()
    assert (job["status"], job["position"], job["attempt"], job["credits_quoted"]) == ("pending", 1, 0, 10)
    assert job["progress"] == {"step": 0, "total_steps": 12, "percent": 0}
    assert job["images"] == []
    assert job["error"] is None


def test_too_few_credits_write_nothing(client: FlaskClient, headers: dict[str, str]) -> None:
    user_id = client.get("/api/v1/auth/me", headers=headers).get_json()["id"]
    hold(user_id, 95)
    before = count("ledger_transactions")
    answer = client.post("/api/v1/generate", json=PROMPT, headers=headers)
    problem = answer.get_json()
    assert answer.status_code == 402
    assert answer.content_type == "application/problem+json"
    assert (problem["code"], problem["required"], problem["available"]) == ("INSUFFICIENT_CREDITS", 10, 5)
    assert (count("jobs"), count("ledger_transactions")) == (1, before)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "   "}, "prompt"),
        ({"prompt": "x" * 2_001}, "prompt"),
        ({"prompt": "nul \0 byte"}, "prompt"),
        ({"prompt": 7}, "prompt"),
        (PROMPT | {"model": "no-such-model"}, "model"),
        (PROMPT | {"width": 130}, "width"),
        (PROMPT | {"height": 8}, "height"),
        (PROMPT | {"width": 1024}, "width"),
        (PROMPT | {"width": "128"}, "width"),
        (PROMPT | {"steps": 0}, "steps"),
        (PROMPT | {"steps": 10**9}, "steps"),
        (PROMPT | {"cfg_scale": 1e9}, "cfg_scale"),
        (PROMPT | {"seed": -1}, "seed"),
        (PROMPT | {"seed": 2**63}, "seed"),
        (PROMPT | {"scheduler": "flow_euler"}, "scheduler"),
        (PROMPT | {"num_images": 9}, "num_images"),
        (PROMPT | {"priority": "urgent"}, "priority"),
        (PROMPT | {"user_id": "somebody"}, "user_id"),
    ],
)
def test_what_cannot_be_drawn_names_the_field(
    client: FlaskClient, headers: dict[str, str], body: dict[str, Any], field: str
) -> None:
    for path in ("generate", "quote", "generation/create"):
        answer = client.post(f"/api/v1/{path}", json=body, headers=headers)
        problem = answer.get_json()
        assert (answer.status_code, problem["code"]) == (422, "VALIDATION"), problem
        assert [error["loc"][0] for error in problem["errors"]] == [field]
    assert count("jobs") == 0


def test_a_model_above_the_plan_is_refused(client: FlaskClient, headers: dict[str, str]) -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE catalog_entries SET min_tier = 'pro' WHERE slug = 'tiny'"))
    try:
        answer = client.post("/api/v1/generate", json=PROMPT, headers=headers)
        assert (answer.status_code, answer.get_json()["code"]) == (403, "TIER_REQUIRED")
        assert client.get("/api/v1/models", headers=headers).get_json()["items"] == []
    finally:
        with db.transaction() as session:
            session.execute(text("UPDATE catalog_entries SET min_tier = 'free' WHERE slug = 'tiny'"))


def test_the_fourth_waiting_job_of_a_free_user_finds_the_queue_full(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    for _ in range(3):
        assert client.post("/api/v1/generate", json=PROMPT, headers=headers).status_code == 202
    answer = client.post("/api/v1/generate", json=PROMPT, headers=headers)
    assert (answer.status_code, answer.get_json()["code"]) == (429, "QUEUE_FULL")
    assert int(answer.headers["Retry-After"]) >= 1
    assert count("jobs") == 3


def test_other_peoples_things_are_not_there(client: FlaskClient, headers: dict[str, str]) -> None:
    job_id = client.post("/api/v1/generate", json=PROMPT, headers=headers).get_json()["job_id"]
    stranger = sign_up(client, "stranger@example.com")
    own_id = client.get("/api/v1/auth/me", headers=headers).get_json()["id"]
    for method, path in [
        ("GET", f"/api/v1/jobs/{job_id}"),
        ("POST", f"/api/v1/jobs/{job_id}/cancel"),
        ("GET", f"/api/v1/jobs/{job_id}/events"),
        ("GET", f"/api/v1/credits/balance/{own_id}"),
        ("GET", "/api/v1/jobs/not-an-id"),
        ("GET", f"/api/v1/images/{job_id}/content"),
    ]:
        answer = client.open(path, method=method, headers=stranger)
        assert (answer.status_code, answer.get_json()["code"]) == (404, "NOT_FOUND"), path
    assert client.get("/api/v1/jobs", headers=stranger).get_json()["items"] == []


def test_jobs_are_listed_newest_first_page_by_page(client: FlaskClient, headers: dict[str, str]) -> None:
    made = [
        client.post("/api/v1/generate", json=PROMPT, headers=headers).get_json()["job_id"] for _ in range(3)
    ]
    first = client.get("/api/v1/jobs?limit=2", headers=headers)
    assert 'rel="next"' in first.headers["Link"]
    page = first.get_json()
    rest = client.get(f"/api/v1/jobs?limit=2&cursor={page['next_cursor']}", headers=headers).get_json()
    listed = [job["job_id"] for job in page["items"] + rest["items"]]
    assert listed == made[::-1]
    assert rest["next_cursor"] is None
    client.post(f"/api/v1/jobs/{made[0]}/cancel", headers=headers)
    cancelled = client.get("/api/v1/jobs?status=cancelled", headers=headers).get_json()["items"]
    assert [job["job_id"] for job in cancelled] == made[:1]


def test_a_waiting_job_is_cancelled_at_once_and_only_an_ended_one_conflicts(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    job_id = client.post("/api/v1/generate", json=PROMPT, headers=headers).get_json()["job_id"]
    answer = client.post(f"/api/v1/jobs/{job_id}/cancel", headers=headers)
    assert (answer.status_code, answer.get_json()["status"]) == (200, "cancelled")
    assert client.get("/api/v1/credits/balance", headers=headers).get_json()["balance"] == 100
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET status = 'failed'"))
    answer = client.post(f"/api/v1/jobs/{job_id}/cancel", headers=headers)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "ALREADY_FINISHED")


def test_a_quote_writes_nothing(client: FlaskClient, headers: dict[str, str]) -> None:
    quote = client.post("/api/v1/quote", json=PROMPT, headers=headers).get_json()
    assert quote["credits"] == 10
    assert set(quote["estimated_wait_seconds"]) == {"p50", "p90"}
    assert (count("jobs"), count("holds")) == (0, 0)


def test_enterprise_is_metered(client: FlaskClient, headers: dict[str, str]) -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE users SET tier = 'enterprise'"))
    assert client.post("/api/v1/generate", json=PROMPT, headers=headers).status_code == 202
    balance = client.get("/api/v1/credits/balance", headers=headers).get_json()
    assert (balance["unlimited"], balance["held"], balance["balance"]) == (True, 0, 100)
