"""The front on a real granian with a stand-in for the API behind it."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client

from pingvas import ids, settings


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def free_port() -> int:
    return _free_port()


@pytest.fixture(scope="session")
def redis_url(broker: str) -> str:
    """A database of its own on the common Redis, so that forgetting everything disturbs nobody."""
    return f"{broker.rpartition('/')[0]}/5"


@pytest.fixture
def events_url(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point this process's settings at an empty Redis."""
    config = settings.Settings(redis_url=redis_url)
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    redis_client.Redis.from_url(redis_url).flushdb()
    return redis_url


@dataclass(frozen=True)
class Api:
    """A running front; `row` writes what the stand-in knows of a job."""

    url: str
    auth: dict[str, str]
    server: "subprocess.Popen[str]"

    def row(self, job_id: str, status: str, **more: Any) -> None:
        row = {"job_id": job_id, "status": status, "attempt": 1, "image_url": None} | more
        httpx.put(f"{self.url}/rows/{job_id}", json=row).raise_for_status()

    def new_job(self, status: str = "in_progress") -> str:
        job_id = str(ids.new())
        self.row(job_id, status)
        return job_id

    @contextmanager
    def sse(self, job_id: str, headers: dict[str, str] | None = None, query: str = "") -> Iterator["Sse"]:
        url = f"{self.url}/api/v1/jobs/{job_id}/events{query}"
        with httpx.stream("GET", url, headers=self.auth | (headers or {}), timeout=30) as response:
            stream = Sse(response)
            if headers is None and not query and response.status_code == 200:
                stream.begins(job_id)
            yield stream

    def state(self) -> dict[str, int]:
        found: dict[str, int] = httpx.get(f"{self.url}/state").json()
        return found


class Sse:
    """A client of one event stream: `next()` gives `(id, event, data)`, `comments` counts keep-alives."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self._lines = response.iter_lines()

    def next(self) -> tuple[str, str, dict[str, Any]] | None:
        """Return the next event, or None at the end of the stream."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                return fields["id"], fields["event"], json.loads(fields["data"])
            else:
                fields = {}
        return None

    def begins(self, job_id: str) -> None:
        """Take the event that all streams begin with."""
        event = self.next()
        assert event is not None
        assert event[:2] == ("0-1", "status")
        assert event[2].items() >= {"job_id": job_id, "status": "pending", "attempt": 0}.items()

    def silence(self) -> None:
        """Return after the next keep-alive."""
        next(line for line in self._lines if line.startswith(":"))

    def rest(self) -> list[tuple[str, str, dict[str, Any]]]:
        return list(iter(self.next, None))


@contextmanager
def _granian(redis_url: str, keep_alive: float, patience: float = 30) -> Iterator[Api]:
    port = _free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "standin:front"],
        cwd=Path(__file__).parent,
        env=os.environ | {"REDIS_URL": redis_url, "KEEP_ALIVE": str(keep_alive), "PATIENCE": str(patience)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    try:
        for line in server.stdout:
            if "Started worker-1" in line:
                break
        # Read on, or the server stands still as soon as the pipe is full.
        threading.Thread(target=server.stdout.read, daemon=True).start()
        httpx.Client(transport=httpx.HTTPTransport(retries=6)).get(f"http://127.0.0.1:{port}/state")
        yield Api(f"http://127.0.0.1:{port}", {"Authorization": "Bearer good"}, server)
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture(scope="session")
def api(redis_url: str) -> Iterator[Api]:
    with _granian(redis_url, keep_alive=1.0) as running:
        yield running


@pytest.fixture
def api_of_its_own(redis_url: str) -> Iterator[Api]:
    """A front that the test may stop, and that is silent for a minute."""
    with _granian(redis_url, keep_alive=60) as running:
        yield running


@pytest.fixture
def impatient_api(redis_url: str) -> Iterator[Api]:
    """A front that waits a second for a body, and for somebody to read."""
    with _granian(redis_url, keep_alive=60, patience=1) as running:
        yield running
