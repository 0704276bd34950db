"""Stopping everything that a user has ordered."""

from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.orm import Session

from pingvas.accounts.models import User
from pingvas.errors import AlreadyFinished
from pingvas.jobs import lifecycle
from pingvas.jobs.models import Job, Status


def cancel_all(session: Session, user: User) -> None:
    """Cancel a user's waiting jobs, which releases their holds, and ask workers to stop the running ones.

    The youngest first: ending a job gives its place to the next, which must not be one that is ended too.
    """
    open_ones = select(Job.id).where(
        Job.user_id == user.id, Job.status.in_([Status.PENDING, Status.IN_PROGRESS])
    )
    for job_id in session.scalars(open_ones.order_by(Job.id.desc())).all():
        with suppress(AlreadyFinished):
            lifecycle.cancel(user.id, job_id)
