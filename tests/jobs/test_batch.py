"""POST /generate/batch: many jobs in one call, all or none."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from pingvas import db
from pingvas.billing import ledger, plans, reconcile
from pingvas.jobs import dispatch

pytestmark = pytest.mark.usefixtures("clean_db")

BATCH = {"prompts": ["a red circle", "a blue star", "a green square"], "seed": 7}


class Customer:
    def __init__(self, client: FlaskClient, tier: str) -> None:
        form = {"email": f"{tier}@example.com", "password": "correct horse battery"}
        answer = client.post("/api/v1/auth/register", json=form).get_json()
        client.delete_cookie("pingvas_session")
        self.id = answer["user"]["id"]
        self._client = client
        self._headers = {"Authorization": f"Bearer {answer['access_token']}"}
        with db.transaction() as session:
            session.execute(
                text("UPDATE users SET tier = :tier WHERE id = :id"), {"tier": tier, "id": self.id}
            )

    def post(self, path: str, body: dict[str, Any]) -> TestResponse:
        return self._client.post(f"/api/v1{path}", json=body, headers=self._headers)

    def get(self, path: str) -> Any:
        return self._client.get(f"/api/v1{path}", headers=self._headers).get_json()


@pytest.fixture
def pro(client: FlaskClient) -> Customer:
    """Has the 100 credits of a new account: enough for ten jobs of ten."""
    return Customer(client, "pro")


def test_each_prompt_becomes_a_job_below_interactive_ones(pro: Customer) -> None:
    before = dispatch.depths()["pro"]
    answer = pro.post("/generate/batch", BATCH)
    accepted = answer.get_json()
    assert answer.status_code == 202
    assert accepted["estimated_credits"] == 30
    jobs = [pro.get(job["links"]["self"].removeprefix("/api/v1")) for job in accepted["jobs"]]
    assert [job["prompt"] for job in jobs] == BATCH["prompts"]
    assert {(job["priority"], job["parameters"]["seed"], job["credits_quoted"]) for job in jobs} == {
        ("batch", 7, 10)
    }
    assert pro.get("/credits/balance")["held"] == 30
    dispatch.flush()
    rung = dispatch.depths()["pro"] - before
    assert rung == plans.of("pro").max_concurrent_jobs  # the others wait in the table


def test_an_interactive_job_gets_the_next_place_before_a_batch(pro: Customer) -> None:
    pro.post("/generate/batch", BATCH)
    urgent = pro.post("/generate", {"prompt": "now"}).get_json()["job_id"]
    with db.transaction() as session:  # as if the first of the batch had ended
        session.execute(text("UPDATE jobs SET status = 'failed' WHERE rung_at IS NOT NULL"))
        dispatch.refill(session, pro.id)
        rung = session.scalar(text("SELECT id FROM jobs WHERE status = 'pending' AND rung_at IS NOT NULL"))
    assert str(rung) == urgent


def test_what_cannot_be_paid_whole_is_not_begun(pro: Customer) -> None:
    answer = pro.post("/generate/batch", {"prompts": ["a red circle"] * 11})
    problem = answer.get_json()
    assert (answer.status_code, problem["required"], problem["available"]) == (402, 110, 100)
    assert pro.get("/jobs")["items"] == []
    assert pro.post("/generate/batch", {"prompts": ["a red circle"] * 10}).status_code == 202
    assert pro.get("/credits/balance")["balance"] == 0
    with db.transaction() as session:
        assert reconcile.problems(session) == {}


def test_what_does_not_fit_the_queue_is_not_begun(pro: Customer) -> None:
    ledger.grant(pro.id, 10_000, business_key="test")
    room = plans.of("pro").max_queue_size
    assert pro.post("/generate/batch", {"prompts": ["a"] * (room - 1)}).status_code == 202
    answer = pro.post("/generate/batch", {"prompts": ["a"] * 2})
    assert (answer.status_code, answer.get_json()["code"]) == (429, "QUEUE_FULL")
    assert "; these would be 2 more" in answer.get_json()["detail"]
    assert '"waiting-jobs";r=1;' in answer.headers["RateLimit"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert pro.post("/generate/batch", {"prompts": ["a"]}).status_code == 202


def test_a_batch_that_could_never_wait_is_422(pro: Customer) -> None:
    room = plans.of("pro").max_queue_size
    answer = pro.post("/generate/batch", {"prompts": ["a"] * (room + 1)})
    assert (answer.status_code, answer.get_json()["errors"][0]["loc"]) == (422, ["prompts"])


def test_monthly_credits_go_first_over_the_whole_batch(pro: Customer) -> None:
    ledger.grant(pro.id, 15, business_key="test")
    assert pro.post("/generate/batch", {"prompts": ["a"] * 11}).status_code == 202
    balance = pro.get("/credits/balance")
    assert (balance["monthly"], balance["purchased"], balance["held"]) == (0, 5, 110)
    with db.transaction() as session:
        assert reconcile.problems(session) == {}
        kept = session.execute(text("SELECT monthly, purchased FROM holds ORDER BY job_id")).all()
    assert [tuple(row) for row in kept] == [(10, 0)] * 10 + [(0, 10)]


@pytest.mark.parametrize("prompts", [[], ["a"] * 101, ["a", " "], "a", ["a" * 2_001], None])
def test_a_bad_list_is_422(pro: Customer, prompts: Any) -> None:
    assert pro.post("/generate/batch", {"prompts": prompts}).status_code == 422


def test_one_bad_value_refuses_all(pro: Customer) -> None:
    assert pro.post("/generate/batch", {**BATCH, "width": 130}).status_code == 422
    assert pro.get("/jobs")["items"] == []


def test_batches_need_a_plan_that_has_them(client: FlaskClient) -> None:
    answer = Customer(client, "starter").post("/generate/batch", BATCH)
    problem = answer.get_json()
    assert (answer.status_code, problem["code"], problem["required"]) == (403, "TIER_REQUIRED", "pro")
