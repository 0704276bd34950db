"""From a prompt to a paid picture, over HTTP, through the queue and a real worker."""

import json
from typing import Any

import numpy as np
import pytest

from tests.flows.conftest import PROMPT, Customer


@pytest.fixture(autouse=True)
def _books_balance_in_the_end(stack: Any) -> Any:
    yield
    assert stack.problems() == {}


def test_a_prompt_becomes_a_picture_with_the_asked_colours(customer: Customer) -> None:
    accepted = customer.generate()
    assert accepted["status"] == "pending"
    assert accepted["estimated_credits"] == 10
    job = customer.finished(accepted["job_id"])
    assert job["status"] == "completed", job["error"]
    pixels = np.asarray(customer.picture(job).convert("RGB"), dtype=float)
    corner, centre = pixels[:12, :12].mean((0, 1)), pixels[56:72, 56:72].mean((0, 1))
    assert corner.argmax() == 2, "the background is blue"
    assert centre.argmax() == 0, "the object is red"


def test_the_same_prompt_and_seed_give_the_same_picture_again(customer: Customer) -> None:
    jobs = [customer.finished(customer.generate(seed=11)["job_id"]) for _ in range(2)]
    first, second = (np.asarray(customer.picture(job)) for job in jobs)
    assert np.array_equal(first, second)
    other = np.asarray(customer.picture(customer.finished(customer.generate(seed=12)["job_id"])))
    assert not np.array_equal(first, other)


def test_the_customer_pays_what_the_job_used_and_sees_it(customer: Customer) -> None:
    job = customer.finished(customer.generate()["job_id"])
    used = job["credits_consumed"]
    assert 1 <= used <= job["credits_quoted"]
    assert used - 1 < job["gpu_seconds"] <= used
    balance = customer.balance()
    assert (balance["balance"], balance["held"]) == (100 - used, 0)
    lines = customer.http.get("/api/v1/credits/transactions").json()["items"]
    assert [line["type"] for line in lines] == ["generation", "release", "hold", "monthly_allocation"]
    assert lines[0]["amount"] == -used
    assert lines[0]["balance_after"] == balance["balance"] == sum(line["amount"] for line in lines)


def test_several_pictures_of_one_job_and_their_thumbnails(customer: Customer) -> None:
    job = customer.finished(customer.generate(num_images=2, seed=5)["job_id"])
    assert [image["seed"] for image in job["images"]] == [5, 6]
    own = customer.http.get("/api/v1/images").json()["items"]
    assert {image["id"] for image in own} == {image["id"] for image in job["images"]}
    for image in job["images"]:
        thumbnail = customer.http.get(image["thumbnail_url"])
        assert thumbnail.headers["Content-Type"] == "image/webp"
        assert thumbnail.content[8:12] == b"WEBP"


def test_the_picture_carries_its_parameters(customer: Customer) -> None:
    job = customer.finished(customer.generate(seed=21)["job_id"])
    chunks = customer.picture(job).info
    assert PROMPT in chunks["parameters"]
    assert json.loads(chunks["pingvas"])["seed"] == 21


def test_a_listener_hears_every_step_and_the_end(customer: Customer) -> None:
    job_id = customer.generate(steps=8)["job_id"]
    events = listen(customer, job_id)
    steps = [data["step"] for kind, data in events if kind == "progress"]
    assert steps == list(range(1, 9))
    kind, data = events[-1]
    assert (kind, data["job_id"]) == ("completed", job_id)
    assert listen(customer, job_id) == events, "a late listener hears the same"


def listen(customer: Customer, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a job's events up to its end."""
    found, kind = [], ""
    with customer.http.stream("GET", f"/api/v1/jobs/{job_id}/events") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                found.append((kind, json.loads(value)))
    return found


def test_older_clients_get_200(customer: Customer) -> None:
    answer = customer.http.post("/api/v1/generation/create", json={"prompt": PROMPT})
    assert answer.status_code == 200
    assert customer.finished(answer.json()["job_id"])["status"] == "completed"


def test_one_idempotency_key_makes_one_job(customer: Customer) -> None:
    body, headers = {"prompt": PROMPT}, {"Idempotency-Key": "order-1"}
    first = customer.http.post("/api/v1/generate", json=body, headers=headers)
    again = customer.http.post("/api/v1/generate", json=body, headers=headers)
    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert len(customer.http.get("/api/v1/jobs").json()["items"]) == 1
    customer.finished(first.json()["job_id"])


def test_a_running_job_can_be_cancelled_and_costs_what_it_used(rich: Customer) -> None:
    job_id = rich.generate(steps=150, num_images=5, width=256, height=256)["job_id"]
    with rich.http.stream("GET", f"/api/v1/jobs/{job_id}/events") as answer:
        next(line for line in answer.iter_lines() if line == "event: progress")
    answer = rich.http.post(f"/api/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 202
    job = rich.finished(job_id)
    assert job["status"] == "cancelled"
    assert 0 < job["progress"]["step"] < 150
    told = rich.http.get(f"/api/v1/jobs/{job_id}/events").text.strip().rpartition("data: ")[2]
    assert json.loads(told)["progress"]["step"] > 0
    assert 1 <= job["credits_consumed"] < job["credits_quoted"]
    assert rich.balance()["balance"] == 1_000 - job["credits_consumed"]


def test_a_worker_that_is_asked_to_leave_hands_its_job_back(stack: Any, rich: Customer) -> None:
    job_id = rich.generate(steps=150, num_images=4, width=256, height=256)["job_id"]
    with rich.http.stream("GET", f"/api/v1/jobs/{job_id}/events") as answer:
        next(line for line in answer.iter_lines() if line == "event: progress")
        assert stack.stop_worker() == 0
    assert rich.job(job_id)["status"] == "pending"
    assert rich.http.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 200
    assert rich.balance()["balance"] == 1_000
    stack.start_worker()


def test_a_worker_killed_mid_job_costs_nobody_anything(stack: Any, customer: Customer) -> None:
    job_id = customer.generate(steps=60)["job_id"]
    with customer.http.stream("GET", f"/api/v1/jobs/{job_id}/events") as answer:
        next(line for line in answer.iter_lines() if line == "event: progress")
        stack.kill_worker()
    assert customer.job(job_id)["status"] == "in_progress"
    stack.start_worker()
    job = customer.finished(job_id)
    assert job["status"] == "completed", job["error"]
    assert job["attempt"] == 2
    assert len(job["images"]) == 1
    captures = [
        line
        for line in customer.http.get("/api/v1/credits/transactions").json()["items"]
        if line["type"] == "generation"
    ]
    assert [line["amount"] for line in captures] == [-job["credits_consumed"]]
    assert customer.balance()["held"] == 0
