"""A server that is told to stop stops, whoever is listening; and does so only then."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from pingvas import events

if TYPE_CHECKING:
    from tests.events.conftest import Api


@pytest.mark.usefixtures("events_url")
def test_followers_are_let_go(api_of_its_own: "Api") -> None:
    api = api_of_its_own
    job = api.new_job()
    events.publish(job, "status", {"status": "in_progress", "attempt": 1})
    waiting = f"{api.url}/api/v1/jobs/{job}"
    address = f"{api.url.replace('http', 'ws')}/ws/jobs/{job}"
    with (
        ThreadPoolExecutor(1) as pool,
        api.sse(job) as stream,
        connect(address, additional_headers=api.auth) as socket,
    ):
        assert stream.next() is not None
        assert [json.loads(socket.recv())["data"]["status"] for _ in range(2)] == ["pending", "in_progress"]
        answer = pool.submit(httpx.get, waiting, headers=api.auth | {"Prefer": "wait=50"}, timeout=60)
        while api.state()["followers"] < 3:
            pass
        start = time.monotonic()
        api.server.terminate()
        assert stream.rest() == []
        assert answer.result().json()["status"] == "in_progress"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    api.server.wait(timeout=20)
    assert time.monotonic() - start < 10
