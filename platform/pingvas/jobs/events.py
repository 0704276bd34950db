"""What a job tells its listeners, always after the transaction that made it true."""

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
    db.after_commit(lambda: _publish(job.id, public))


def _publish(job_id: UUID, public: dict[str, Any]) -> None:
    if public["status"] == "cancelled" and public["attempt"]:  # how far it came is told by its events only
        public["progress"] = events.latest_progress(job_id) or public["progress"]
    events.publish(job_id, *events.of_job(public))


def progress(job_id: UUID, step: int, total_steps: int) -> None:
    """Tell how many denoising steps are done; said from the worker, outside any transaction."""
    percent = 100 * step // total_steps if total_steps else 0
    events.publish(job_id, "progress", {"step": step, "total_steps": total_steps, "percent": percent})
