"""How a GPU worker leaves: on a signal, when it is drained, and who may not come."""

import json
import signal
from typing import Any

import httpx
import pytest

from tests.conftest import free_port
from tests.flows.conftest import Customer

LONG = {"steps": 150, "num_images": 5, "width": 256, "height": 256}


@pytest.fixture(autouse=True)
def _as_it_was_in_the_end(stack: Any) -> Any:
    yield
    stack.start_worker()
    assert stack.problems() == {}


def running(customer: Customer, **order: Any) -> str:
    """Return a job that has made a step."""
    job_id: str = customer.generate(**order)["job_id"]
    with customer.http.stream("GET", f"/api/v1/jobs/{job_id}/events") as answer:
        next(line for line in answer.iter_lines() if line == "event: progress")
    return job_id


def test_asked_twice_it_gives_its_jobs_back_at_once(stack: Any, rich: Customer) -> None:
    rich.finished(rich.generate()["job_id"])  # the worker is up, and heeds signals
    before = rich.balance()["balance"]
    assert stack.stop_worker() == 0
    stack.start_worker(PINGVAS_WORKER_GRACE_SECONDS="600")
    job_id = running(rich, **LONG)
    stack.signal_worker(signal.SIGINT)
    while "waiting up to 600 s for 1 running jobs" not in stack.worker_log():
        pass
    assert rich.job(job_id)["status"] == "in_progress"
    stack.signal_worker(signal.SIGINT)
    assert stack.worker_status() == 0
    job = rich.job(job_id)
    assert (job["status"], job["attempt"]) == ("pending", 1)
    assert rich.http.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 200
    assert rich.balance()["balance"] == before


def test_a_drained_worker_finishes_what_it_has(stack: Any, rich: Customer) -> None:
    job_id = running(rich, steps=100)
    assert stack.pingvas("worker", "drain", "nobody").returncode == 1
    done = stack.pingvas("worker", "drain", "--all")
    assert done.returncode == 0, done.stderr
    assert "is asked to leave" in done.stdout
    assert stack.worker_status() == 0
    job = rich.job(job_id)
    assert (job["status"], job["attempt"]) == ("completed", 1)
    later = rich.generate()["job_id"]
    stack.start_worker()
    assert rich.finished(later)["status"] == "completed"


def test_a_second_worker_of_one_name_is_refused(stack: Any, customer: Customer) -> None:
    customer.finished(customer.generate()["job_id"])  # the first one is up
    second = stack.another_worker()
    assert second.returncode != 0
    assert "is up already. Choose another with --name." in second.stderr


def test_a_worker_says_whether_it_is_well(stack: Any, rich: Customer) -> None:
    port = free_port()
    assert stack.stop_worker() == 0
    stack.start_worker(PINGVAS_HEALTH_PORT=str(port))
    rich.finished(rich.generate()["job_id"])
    live = stack.pingvas("health", "--port", str(port))
    assert live.returncode == 0, live.stderr
    assert json.loads(live.stdout) == {"status": "ok", "checks": {"leases": "ok", "gpu": "ok"}}
    while httpx.get(f"http://127.0.0.1:{port}/readyz").status_code != 200:
        pass  # it has not reported to the broker yet
    job_id = running(rich, **LONG)
    stack.pingvas("worker", "drain", "--all")
    while (answer := httpx.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
        pass
    assert answer.json()["checks"]["staying"] == "this worker takes no more jobs"
    assert stack.pingvas("health", "--port", str(port)).returncode == 0  # no reason to kill it
    assert rich.http.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 202
    assert stack.worker_status() == 0
    assert stack.pingvas("health", "--port", str(port)).returncode == 1
