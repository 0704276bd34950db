"""Streams that are open when their owner is shut out end then: in silence, they would go on for a minute."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.flows.conftest import Customer

PASSWORD = "correct horse battery"


@pytest.fixture
def waiting(stack: Any, customer: Customer) -> Iterator[str]:
    """A job that nobody works on."""
    assert stack.pingvas("queues", "pause", "free").returncode == 0
    yield customer.generate()["job_id"]
    assert stack.pingvas("queues", "resume", "free").returncode == 0
    assert stack.problems() == {}


@contextmanager
def opened(customer: Customer, job_id: str, token: str | None = None) -> Iterator[ClientConnection]:
    """Give a socket that has said that the job waits."""
    url = str(customer.http.base_url).replace("http://", "ws://").rstrip("/")
    headers = {"Authorization": f"Bearer {token}" if token else customer.http.headers["Authorization"]}
    with connect(f"{url}/ws/jobs/{job_id}", additional_headers=headers) as socket:
        assert json.loads(socket.recv())["data"]["status"] == "pending"
        yield socket


def closed_with(socket: ClientConnection) -> int:
    """Return the close code that comes next; a silence of 12 s or more is an error."""
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=11)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_signing_out_everywhere(customer: Customer, waiting: str) -> None:
    with opened(customer, waiting) as socket:
        assert customer.http.post("/api/v1/auth/logout-all").status_code == 204
        assert closed_with(socket) == 4401


def test_another_password_cuts_the_others_only(customer: Customer, waiting: str) -> None:
    login = {"email": customer.email, "password": PASSWORD}
    other = httpx.post(f"{customer.http.base_url}/api/v1/auth/login", json=login).json()["access_token"]
    with opened(customer, waiting, other) as theirs, opened(customer, waiting) as mine:
        body = {"password": PASSWORD, "new_password": "a better battery staple"}
        assert customer.http.post("/api/v1/auth/change-password", json=body).status_code == 204
        assert closed_with(theirs) == 4401
        assert customer.http.post(f"/api/v1/jobs/{waiting}/cancel").status_code == 200
        assert json.loads(mine.recv(timeout=11))["data"]["status"] == "cancelled"


def test_a_key_that_is_deleted(customer: Customer, waiting: str) -> None:
    key = customer.http.post("/api/v1/api-keys", json={"name": "batch"}).json()
    with opened(customer, waiting, key["key"]) as socket:
        assert customer.http.delete(f"/api/v1/api-keys/{key['id']}").status_code == 204
        assert closed_with(socket) == 4401


def test_a_suspended_account(stack: Any, rich: Customer) -> None:
    job_id = rich.generate(steps=150, num_images=5, width=256, height=256)["job_id"]
    with rich.http.stream("GET", f"/api/v1/jobs/{job_id}/events") as answer:
        lines = answer.iter_lines()
        next(line for line in lines if line == "event: progress")
        done = stack.pingvas("user", "suspend", rich.email)
        assert done.returncode == 0, done.stderr
        assert not any(line.startswith(":") for line in lines)  # it ends before any silence
    assert rich.http.get(f"/api/v1/jobs/{job_id}").status_code == 401
