"""Reading jobs: always one user's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from pingvas import db, events
from pingvas.errors import NotFound
from pingvas.gallery import pictures
from pingvas.gallery.models import Image
from pingvas.jobs import eta
from pingvas.jobs.models import Job, Status


@dataclass(frozen=True)
class Found:
    """A job with what its public object needs beside the row."""

    job: Job
    images: list[Image]
    place: eta.Place | None = None
    progress: dict[str, Any] | None = None
    replayed_by: UUID | None = None


def one(user_id: UUID, job_id: UUID) -> Found:
    """Return a user's own job with its place in the queue or its progress.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    with db.transaction() as session:
        job = session.get(Job, job_id)
        if job is None or job.user_id != user_id:
            raise NotFound
        images = pictures.of_jobs(session, [job.id])[job.id]
        place = eta.of_jobs(session, [job]).get(job.id)
        replay = replays(session, [job]).get(job.id)
    begun = job.status not in (Status.PENDING, Status.COMPLETED)
    return Found(job, images, place, events.latest_progress(job.id) if begun else None, replay)


def replays(session: Session, jobs: Sequence[Job]) -> dict[UUID, UUID]:
    """Return which job was ordered again for each of those that failed."""
    failed = [job.id for job in jobs if job.status == Status.FAILED]
    if not failed:
        return {}
    query = select(Job.replay_of, Job.id).where(Job.replay_of.in_(failed))
    return {before: again for before, again in session.execute(query) if before is not None}


def of_user(user_id: UUID, status: str | None = None) -> Select[Job]:
    """Return the query of a user's own jobs, perhaps of one status."""
    query = select(Job).where(Job.user_id == user_id)
    return query if status is None else query.where(Job.status == status)
