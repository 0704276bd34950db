"""What a job tells its listeners, always after the transaction that made it true."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from pingvas import db, events, settings
from pingvas.gallery import pictures
from pingvas.jobs.models import Job
from pingvas.jobs.presenter import job_object


def changed(session: Session, job: Job) -> None:
    """Tell of a job's new status once it is committed: `status`, `completed` or `failed`."""
    session.flush()
    images = pictures.of_jobs(session, [job.id])[job.id]
    public = job_object(job, images, base_url=settings.get().public_url.rstrip("/"))
    kind, data = events.of_job(public)
    db.after_commit(lambda: events.publish(job.id, kind, data))


def begun(jobs: Iterable[tuple[UUID, int]]) -> None:
    """Tell of new jobs, each with its number of steps; what they say is what `changed` would."""
    events.begin((job_id, _waiting(job_id, steps)) for job_id, steps in jobs)


def _waiting(job_id: UUID, steps: int) -> dict[str, Any]:
    progress_of_none = {"step": 0, "total_steps": steps, "percent": 0}
    job = {"job_id": str(job_id), "status": "pending", "attempt": 0, "position": None}
    return events.of_job({**job, "progress": progress_of_none})[1]


def progress(job_id: UUID, step: int, total_steps: int) -> None:
    """Tell how many denoising steps are done; said from the worker, outside any transaction."""
    percent = 100 * step // total_steps if total_steps else 0
    events.publish(job_id, "progress", {"step": step, "total_steps": total_steps, "percent": percent})
