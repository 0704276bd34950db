"""How long a job will wait, as clients see it; no worker runs here."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from pingvas import workers
from pingvas.jobs.eta import snapshots
from pingvas.workers import Worker

pytestmark = pytest.mark.usefixtures("clean_db", "no_workers")

PROMPT = {"prompt": "a red circle on a blue background"}
TIERS = ("enterprise", "studio", "pro", "starter", "free")


@pytest.fixture
def headers(client: FlaskClient) -> dict[str, str]:
    account = {"email": "customer@example.com", "password": "correct horse battery"}
    answer = client.post("/api/v1/auth/register", json=account)
    client.delete_cookie("pingvas_session")
    return {"Authorization": f"Bearer {answer.get_json()['access_token']}"}


def announce(families: set[str]) -> None:
    workers.announce(Worker("gpu-1", frozenset(TIERS), frozenset(families), slots=2))
    workers.forget()


def submit(client: FlaskClient, headers: dict[str, str]) -> dict[str, Any]:
    answer = client.post("/api/v1/generate", json=PROMPT, headers=headers)
    assert answer.status_code == 202, answer.text
    return dict(answer.get_json())


def test_a_waiting_job_says_how_long_and_an_ended_one_does_not(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    accepted = [submit(client, headers) for _ in range(2)]
    snapshots.current.forget()
    shown = [client.get(job["links"]["self"], headers=headers).get_json() for job in accepted]
    assert [job["position"] for job in shown] == [1, 2]
    assert (
        shown[0]["eta_seconds"]["p50"] < shown[1]["eta_seconds"]["p50"]
    )  # one place each: it is the second turn
    assert all(job["eta_seconds"]["p50"] <= job["eta_seconds"]["p90"] for job in shown)
    listed = client.get("/api/v1/jobs", headers=headers).get_json()["items"]
    assert [job["position"] for job in listed] == [2, 1]
    assert all(job["eta_seconds"]["p90"] > 0 for job in listed)
    client.post(accepted[0]["links"]["cancel"], headers=headers)
    ended = client.get(accepted[0]["links"]["self"], headers=headers).get_json()
    assert (ended["position"], ended["eta_seconds"]) == (None, None)


def test_queues_and_quotes_tell_of_the_wait(client: FlaskClient, headers: dict[str, str]) -> None:
    submit(client, headers)
    items = client.get("/api/v1/queues", headers=headers).get_json()["items"]
    assert [(item["tier"], item["waiting"]) for item in items] == [
        *((tier, 0) for tier in TIERS[:4]),
        ("free", 1),
    ]
    quote = client.post("/api/v1/quote", json=PROMPT, headers=headers).get_json()
    for wait in (quote["estimated_wait_seconds"], *(item["eta_seconds"] for item in items)):
        assert 0 < wait["p50"] <= wait["p90"]


def test_a_job_that_no_live_worker_can_run_is_refused(client: FlaskClient, headers: dict[str, str]) -> None:
    announce({"sdxl"})
    answer = client.post("/api/v1/generate", json=PROMPT, headers=headers)
    assert (answer.status_code, answer.get_json()["code"]) == (503, "NO_WORKER")
    assert answer.headers["Retry-After"] == "30"
    assert client.get("/api/v1/jobs", headers=headers).get_json()["items"] == []
    announce({"sdxl", "tiny"})
    submit(client, headers)
