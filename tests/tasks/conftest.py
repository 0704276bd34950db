"""What tests of tasks share: customers and their jobs, and pictures that nobody had to draw."""

from uuid import UUID

from gpu_worker.request import GenerationResult, Picture
from pingvas import db
from pingvas.accounts.register import register
from pingvas.jobs import dispatch, submit
from pingvas.jobs.models import Job
from pingvas.jobs.submit import Order

DRAWN = GenerationResult((Picture(b"a PNG", {256: b"a WEBP", 512: b"another"}, 128, 128, 7),), 2.5, None)


def ordered(number: int = 0, steps: int = 30) -> UUID:
    """Return the job of a new customer."""
    user = register(f"customer-{number}@example.com", "correct horse battery")
    order = Order(prompt="a red circle on a blue background", seed=number, steps=steps)
    job_id = submit.submit(user.id, user.tier, order).job_id
    dispatch.flush()
    return job_id


def row(job_id: UUID) -> Job:
    with db.transaction() as session:
        return session.get_one(Job, job_id)
