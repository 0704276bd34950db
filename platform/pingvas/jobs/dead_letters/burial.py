"""Writing down failed attempts and final failures, always in the transaction that fails the job."""

import traceback
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from pingvas import clock
from pingvas.jobs.dead_letters.classes import class_of, replay_delay
from pingvas.jobs.dead_letters.models import DeadLetter
from pingvas.jobs.models import Job

_MOST_CHARACTERS: Final = 16_000  # of a traceback, whose end says most

_RECORD = text("""
    INSERT INTO job_attempts (job_id, number, worker, started_at, ended_at, code, traceback)
    SELECT id, attempt, worker, started_at, :now, :code, :traceback FROM jobs
    WHERE id = :job AND status = 'in_progress' AND attempt = :attempt""")

# A replay inherits what its job has done before: a new id makes it no less dangerous.
_FAILED_SO = text("""
    WITH RECURSIVE line (job_id) AS (
        SELECT CAST(:job AS uuid)
        UNION ALL
        SELECT dead_letters.job_id FROM dead_letters JOIN line ON dead_letters.replayed_as = line.job_id)
    SELECT count(*) FROM job_attempts JOIN line USING (job_id) WHERE code = :code""")


def record_attempt(
    session: Session, job_id: UUID, attempt: int, code: str, cause: BaseException | None
) -> None:
    """Write down how a running attempt fails; one that is no longer running leaves nothing."""
    lines = "".join(traceback.format_exception(cause)) if cause else ""
    values = {"job": job_id, "attempt": attempt, "code": code, "now": clock.now()}
    session.execute(_RECORD, values | {"traceback": lines[-_MOST_CHARACTERS:].replace("\0", "")})


def count(session: Session, job_id: UUID, code: str) -> int:
    """Return how many attempts ended with `code`, those of the jobs that it replays included."""
    return int(session.scalar(_FAILED_SO, {"job": job_id, "code": code}) or 0)


def bury(session: Session, job: Job, code: str) -> None:
    """Open the dead letter of a job that has just failed for good, unless the customer failed it."""
    class_ = class_of(code)
    if class_ is None:
        return
    before = session.scalar(select(DeadLetter.replays).where(DeadLetter.replayed_as == job.id))
    replays = 0 if before is None else before + 1
    delay = replay_delay(class_, replays)
    session.add(
        DeadLetter(
            job_id=job.id,
            class_=class_.value,
            code=code,
            tier=job.tier,
            replays=replays,
            replay_after=None if delay is None else func.clock_timestamp() + timedelta(seconds=delay),
            created_at=clock.now(),
        )
    )
