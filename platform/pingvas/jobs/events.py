"""What a job tells its listeners, always after the transaction that made it true."""

from typing import Any
from uuid import UUID

from pingvas import db, events


def status(job_id: UUID, status: str, attempt: int) -> None:
    """Tell that a job has a new status which is not its end."""
    _later(job_id, "status", {"status": status, "attempt": attempt})


def completed(job_id: UUID, job: dict[str, Any]) -> None:
    """Tell that a job has ended well; `job` is its public object."""
    _later(job_id, "completed", job)


def failed(job_id: UUID, error: dict[str, Any]) -> None:
    """Tell that a job has failed for good."""
    _later(job_id, "failed", {"status": "failed", "error": error})


def progress(job_id: UUID, step: int, total_steps: int) -> None:
    """Tell how many denoising steps are done; said from the worker, outside any transaction."""
    percent = 100 * step // total_steps if total_steps else 0
    events.publish(job_id, "progress", {"step": step, "total_steps": total_steps, "percent": percent})


def _later(job_id: UUID, kind: str, data: dict[str, Any]) -> None:
    db.after_commit(lambda: _publish(job_id, kind, data))


def _publish(job_id: UUID, kind: str, data: dict[str, Any]) -> None:
    events.publish(job_id, kind, data)
