"""One customer of a stack, and what becomes of the orders, read from the rows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx
from sqlalchemy import text

from pingvas import db
from pingvas.accounts import tokens
from pingvas.accounts.register import register

LONG: Final = {"prompt": "a red circle", "steps": 150, "num_images": 5, "width": 256, "height": 256}
SHORT: Final = {"prompt": "a red circle", "steps": 4}
_MOST_SECONDS: Final = 240.0
_ROW = text("""
    SELECT id::text, status, attempt, worker,
           extract(epoch FROM started_at)::float AS started,
           extract(epoch FROM completed_at)::float AS ended,
           extract(epoch FROM deadline_at)::float AS deadline
    FROM jobs WHERE id = :id OR replay_of = :id ORDER BY replay_of IS NULL LIMIT 1""")


@dataclass(frozen=True)
class Row:
    """A job; moments in seconds since 1970. Once it is replayed, the replay."""

    id: str
    status: str
    attempt: int
    worker: str | None
    started: float | None
    ended: float | None
    deadline: float | None


class Customer:
    """Somebody with credits enough, whose plan leaves deadlines to the settings."""

    def __init__(self, url: str) -> None:
        user = register("recovery@example.com", "correct horse battery", tier="studio")
        with db.transaction() as session:
            token = tokens.sign_in(session, user).access_token
        # A connection for each request: nothing is left half open by a killed API.
        limits = httpx.Limits(max_keepalive_connections=0)
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, timeout=15, limits=limits, headers=headers)

    def order(self, **body: Any) -> str:
        """Order until it is accepted; return the job's id."""
        while True:
            try:
                answer = self._http.post("/api/v1/generate", json=body)
            except httpx.TransportError:
                continue
            if answer.status_code == httpx.codes.ACCEPTED:
                return str(answer.json()["job_id"])
            if not answer.is_server_error:
                raise RuntimeError(answer.text)
            time.sleep(0.02)

    def running(self, **body: Any) -> str:
        """Order and wait until a worker has the job."""
        job_id = self.order(**body)
        wait(job_id, lambda row: row.status == "in_progress")
        return job_id

    def cancel(self, job_id: str) -> None:
        """Cancel a job that is of no interest any more."""
        self._http.post(f"/api/v1/jobs/{job_id}/cancel")
        wait(job_id, lambda row: row.ended is not None)


def row(job_id: str) -> Row:
    """Return a job as it is now."""
    with db.transaction() as session:
        return Row(*session.execute(_ROW, {"id": job_id}).one())


def wait(job_id: str, until: Callable[[Row], bool]) -> Row:
    """Wait until a job is as wanted."""
    deadline = time.monotonic() + _MOST_SECONDS
    while True:
        try:
            found = row(job_id)
        except db.PASSING:
            continue
        if until(found):
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"it does not come to that: {found}")
        time.sleep(0.05)


def started(job_id: str, attempt: int) -> float:
    """Wait until an attempt begins; return when."""
    found = wait(job_id, lambda row: row.attempt >= attempt and row.started is not None)
    assert found.started is not None
    return found.started


def ended(job_id: str) -> float:
    """Wait until a job has ended; return when."""
    found = wait(job_id, lambda row: row.ended is not None)
    assert found.ended is not None
    return found.ended
