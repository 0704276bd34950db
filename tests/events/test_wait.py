"""`Prefer: wait=N`: early at the end of the job, else on time, and never on a thread."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from pingvas import events, ids
from pingvas.asgi import wait

if TYPE_CHECKING:
    from tests.events.conftest import Api

pytestmark = pytest.mark.usefixtures("events_url")


def get(api: "Api", job: str, prefer: str) -> httpx.Response:
    headers = api.auth | {"Prefer": prefer, "If-None-Match": '"x"'}
    return httpx.get(f"{api.url}/api/v1/jobs/{job}", headers=headers, timeout=30)


def test_many_wait_and_all_are_told_at_the_end(api: "Api") -> None:
    job = api.new_job()
    events.publish(job, "progress", {"step": 1})
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(get, api, job, "wait=20") for _ in range(20)]
        while api.state()["followers"] < 20:  # Flask has two threads, and answers
            assert not any(answer.done() for answer in answers)
        api.row(job, "completed")
        events.publish(job, "completed", {"status": "completed"})
        start = time.monotonic()
        results = [answer.result() for answer in answers]
    assert time.monotonic() - start < 3
    for answer in results:
        assert answer.status_code == 200
        assert answer.json()["status"] == "completed"
        assert answer.headers["preference-applied"] == "wait=20"
        assert answer.headers["x-request-id"]
    assert api.state()["followers"] == 0


def test_a_job_that_has_ended_is_answered_at_once(api: "Api") -> None:
    answer = get(api, api.new_job("failed"), "respond-async, wait=30")
    assert answer.json()["status"] == "failed"
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.elapsed.total_seconds() < 2


def test_time_is_up(api: "Api") -> None:
    answer = get(api, api.new_job("pending"), "wait=1")
    assert answer.json()["status"] == "pending"
    assert 1 <= answer.elapsed.total_seconds() < 3


def test_the_row_is_looked_at_when_nobody_rings(api: "Api") -> None:
    job = api.new_job()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(get, api, job, "wait=30")
        while not api.state()["followers"]:
            pass
        api.row(job, "completed")
        assert answer.result().elapsed.total_seconds() < 5
    assert answer.result().json()["status"] == "completed"


def test_refusals_and_plain_requests(api: "Api") -> None:
    job = api.new_job()
    assert get(api, str(ids.new()), "wait=5").status_code == 404
    plain = get(api, job, "wait=0")
    assert plain.status_code == 200
    assert "preference-applied" not in plain.headers


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("wait=10", 10),
        ('handling=lenient, wait="7"; x=y', 7),
        ("Wait = 5", 5),
        ("wait=61", 60),
        ("wait=0", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait", None),
        ("await=5", None),
    ],
)
def test_the_header(prefer: str | None, seconds: int | None) -> None:
    assert wait.seconds(prefer) == seconds
