"""Whoever may no longer follow a job is cut off when somebody knocks, and not at the next silence."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from pingvas import events, ids
from tests.events.standin import CALLERS_ID

if TYPE_CHECKING:
    from tests.events.conftest import Api

pytestmark = pytest.mark.usefixtures("events_url")
CALLER = UUID(CALLERS_ID)


def taken_away(api: "Api", job: str) -> None:
    """Let the API refuse the caller from now on, and say so."""
    httpx.delete(f"{api.url}/rows/{job}").raise_for_status()
    events.knock(CALLER)


def exhaust(socket: ClientConnection) -> None:
    """Read until the socket is closed; raises TimeoutError in a silence of 20 s."""
    while True:
        socket.recv(timeout=20)


def test_a_stream_is_cut(api_of_its_own: "Api") -> None:
    job = api_of_its_own.new_job()
    events.publish(job, "status", {"status": "in_progress", "attempt": 1})
    with api_of_its_own.sse(job) as stream:
        assert stream.next() is not None
        taken_away(api_of_its_own, job)
        assert stream.rest() == []
        assert stream.comments == 0


def test_a_socket_is_closed(api_of_its_own: "Api") -> None:
    job = api_of_its_own.new_job("pending")
    url = api_of_its_own.url.replace("http://", "ws://")
    with connect(f"{url}/ws/jobs/{job}", additional_headers=api_of_its_own.auth) as socket:
        assert json.loads(socket.recv())["data"]["status"] == "pending"
        taken_away(api_of_its_own, job)
        with pytest.raises(ConnectionClosed) as closed:
            exhaust(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4404


def test_who_waits_is_answered(api_of_its_own: "Api") -> None:
    job = api_of_its_own.new_job()

    def wait() -> int:
        headers = api_of_its_own.auth | {"Prefer": "wait=60"}
        url = f"{api_of_its_own.url}/api/v1/jobs/{job}"
        return httpx.get(url, headers=headers, timeout=30).status_code

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(wait)
        while not api_of_its_own.state()["followers"]:
            pass
        taken_away(api_of_its_own, job)
        assert answer.result() == 404


def test_who_may_still_follow_hears_every_event_once(api_of_its_own: "Api") -> None:
    job = api_of_its_own.new_job()
    events.publish(job, "status", {"status": "in_progress", "attempt": 1})
    with api_of_its_own.sse(job) as stream:
        assert stream.next() is not None
        steps = []
        for step in range(1, 4):
            events.knock(CALLER)
            events.knock(ids.new())
            events.publish(job, "progress", {"step": step})
            event = stream.next()
            assert event is not None
            steps.append(event[2]["step"])
        events.publish(job, "completed", {"status": "completed"})
        assert steps == [1, 2, 3]
        assert [kind for _, kind, _ in stream.rest()] == ["completed"]


def test_a_knock_at_another_door_asks_nobody(api_of_its_own: "Api") -> None:
    job = api_of_its_own.new_job()
    events.publish(job, "status", {"status": "in_progress", "attempt": 1})
    with api_of_its_own.sse(job) as stream:
        assert stream.next() is not None
        asked = api_of_its_own.state()["internal"]
        events.knock(ids.new())
        events.publish(job, "completed", {"status": "completed"})
        assert [kind for _, kind, _ in stream.rest()] == ["completed"]
    assert api_of_its_own.state()["internal"] == asked
