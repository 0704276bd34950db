"""Reading dead letters: by filter, one with its history, and what replaying some would hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, select, text

from pingvas import audit, db
from pingvas.accounts.models import User
from pingvas.audit.models import AuditEntry
from pingvas.billing import plans
from pingvas.billing.models import Wallet
from pingvas.errors import NotFound
from pingvas.jobs.dead_letters.classes import Class
from pingvas.jobs.dead_letters.models import DeadLetter, JobAttempt, State
from pingvas.jobs.models import Job

# A worker's name ends with its process id, so it stands for one life of it.
_NEIGHBOURS = text("""
    SELECT other.job_id, count(*) FROM job_attempts AS own
    JOIN job_attempts AS other ON other.worker = own.worker AND other.job_id <> own.job_id
    WHERE own.job_id = :job AND own.code = 'WORKER_LOST' AND other.code = 'WORKER_LOST'
    GROUP BY other.job_id ORDER BY count(*) DESC LIMIT 20""")


@dataclass(frozen=True)
class Filter:
    """Which open letters are meant; None: any. `before` is when the job failed."""

    class_: str | None = None
    code: str | None = None
    tier: str | None = None
    before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the filter as conditions on `dead_letters`."""
        found = [DeadLetter.state == State.OPEN.value]
        wanted = {DeadLetter.class_: self.class_, DeadLetter.code: self.code, DeadLetter.tier: self.tier}
        found += [column == value for column, value in wanted.items() if value is not None]
        if self.before is not None:
            found.append(DeadLetter.created_at < self.before)
        return found


@dataclass(frozen=True)
class History:
    """A dead letter with all that operators need to judge it.

    `neighbours` are other jobs that were lost with its workers, and with how many of them.
    """

    letter: DeadLetter
    job: Job
    attempts: Sequence[JobAttempt]
    acts: Sequence[AuditEntry]
    neighbours: Sequence[tuple[UUID, int]]


@dataclass(frozen=True)
class Preview:
    """What replaying some letters means: jobs, the credits that would be held at most, and for how many
    customers those are more than they have."""

    jobs: int
    credits: int
    cannot_pay: int


def matching(wanted: Filter, limit: int | None = None) -> list[DeadLetter]:
    """Return the open letters that match, the oldest first."""
    query = select(DeadLetter).where(*wanted.conditions()).order_by(DeadLetter.created_at).limit(limit)
    with db.transaction() as session:
        return list(session.scalars(query))


def by_class() -> dict[Class, int]:
    """Return how many letters of each class are open."""
    query = select(DeadLetter.class_, func.count()).where(*Filter().conditions()).group_by(DeadLetter.class_)
    with db.transaction() as session:
        counts = {row[0]: int(row[1]) for row in session.execute(query)}
    return {class_: counts.get(class_.value, 0) for class_ in Class}


def history(job_id: UUID) -> History:
    """Return one letter with its job, failed attempts and what operators did.

    Raises:
        NotFound: there is no letter of this job.
    """
    with db.transaction() as session:
        letter = session.get(DeadLetter, job_id)
        if letter is None:
            raise NotFound(f"There is no dead letter of job {job_id}.")
        attempts = select(JobAttempt).where(JobAttempt.job_id == job_id).order_by(JobAttempt.number)
        return History(
            letter,
            session.get_one(Job, job_id),
            session.scalars(attempts).all(),
            audit.of_subject(session, f"job:{job_id}"),
            [(row[0], int(row[1])) for row in session.execute(_NEIGHBOURS, {"job": job_id})],
        )


def preview(job_ids: Sequence[UUID]) -> Preview:
    """Return what replaying these letters would hold now; customers of metered plans hold nothing."""
    metered = [tier.value for tier, plan in plans.table().items() if plan.unlimited]
    held = func.sum(case((User.tier.in_(metered), 0), else_=Job.credits_quoted))
    query = (
        select(func.count(), held, Wallet.monthly + Wallet.purchased)
        .join(User, User.id == Job.user_id)
        .join(Wallet, Wallet.user_id == Job.user_id)
        .where(Job.id.in_(job_ids))
        .group_by(Wallet.user_id)
    )
    with db.transaction() as session:
        rows = [(int(jobs), int(credits), int(left)) for jobs, credits, left in session.execute(query)]
    short = sum(credits > left for _, credits, left in rows)
    return Preview(sum(row[0] for row in rows), sum(row[1] for row in rows), short)
