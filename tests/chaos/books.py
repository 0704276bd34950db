"""What must be true in the end, asked of the database, the object store and the streams of events."""

import hashlib
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from pingvas import db, events, storage
from pingvas.billing import reconcile
from pingvas.gallery import pictures
from tests.chaos.customers import Answers

# Each query returns one line of text for each thing that is wrong.
CHECKS: Final = {
    "jobs that have not ended": """
        SELECT 'job ' || id || ' is ' || status || ' at attempt ' || attempt FROM jobs
        WHERE status IN ('pending', 'in_progress')""",
    "jobs whose end is not whole": """
        SELECT 'job ' || id || ' is ' || status FROM jobs WHERE status NOT IN ('pending', 'in_progress')
        AND (completed_at IS NULL OR credits_consumed IS NULL
             OR (status = 'failed') <> (error_code IS NOT NULL)
             OR (status = 'completed' AND (attempt = 0 OR gpu_seconds IS NULL)))""",
    "orders with more than one job": """
        SELECT prompt || ': ' || count(*) || ' jobs' FROM jobs
        WHERE id NOT IN (SELECT replayed_as FROM dead_letters WHERE replayed_as IS NOT NULL)
        GROUP BY prompt HAVING count(*) > 1""",
    "orders that were delivered more than once": """
        SELECT prompt FROM jobs WHERE status = 'completed' GROUP BY prompt HAVING count(*) > 1""",
    "holds that are neither captured nor released": """
        SELECT 'job ' || job_id FROM holds WHERE settled_at IS NULL OR captured IS NULL""",
    "jobs whose money moved other than once": """
        SELECT 'job ' || h.job_id || ': ' || coalesce(string_agg(t.type, ', ' ORDER BY t.id), 'nothing')
        FROM holds h LEFT JOIN ledger_transactions t ON t.job_id = h.job_id
        GROUP BY h.job_id, h.monthly, h.purchased, h.captured
        HAVING count(*) FILTER (WHERE t.type = 'hold') <> (h.monthly + h.purchased > 0)::int
            OR count(*) FILTER (WHERE t.type = 'release') <> (h.monthly + h.purchased > 0)::int
            OR count(*) FILTER (WHERE t.type = 'generation') <> (h.captured > 0)::int""",
    "captures that differ from what the job used": """
        SELECT 'job ' || j.id || ': ' || j.gpu_seconds || ' s of ' || h.quote || ', captured ' || h.captured
        FROM jobs j JOIN holds h ON h.job_id = j.id WHERE j.status = 'completed'
        AND h.captured <> least(h.quote, greatest(1, ceil(j.gpu_seconds)))""",
    "ledger entries that do not belong to one job's charge": """
        SELECT 'job ' || h.job_id FROM holds h JOIN ledger_transactions t ON t.job_id = h.job_id
        JOIN ledger_entries e ON e.transaction_id = t.id AND e.account = 'revenue'
        GROUP BY h.job_id, h.captured HAVING sum(e.amount) <> h.captured""",
    "pictures without a charge": """
        SELECT DISTINCT 'job ' || i.job_id FROM images i LEFT JOIN holds h USING (job_id)
        WHERE coalesce(h.captured, 0) = 0""",
    "jobs whose pictures are not those ordered": """
        SELECT 'job ' || j.id || ' is ' || j.status || ' with ' || count(i.id) || ' pictures' FROM jobs j
        LEFT JOIN images i ON i.job_id = j.id GROUP BY j.id
        HAVING count(i.id) <> CASE j.status WHEN 'completed'
            THEN (j.parameters ->> 'num_images')::int ELSE 0 END""",
    "charges without a picture": """
        SELECT 'job ' || j.id || ' is ' || j.status FROM jobs j JOIN holds h ON h.job_id = j.id
        WHERE h.captured > 0 AND j.status NOT IN ('completed', 'cancelled')""",
    "failures that left no record": """
        SELECT 'job ' || j.id || ': ' || j.failures || ' failures, ' || count(a.job_id) || ' records'
        FROM jobs j LEFT JOIN job_attempts a ON a.job_id = j.id
        GROUP BY j.id HAVING count(a.job_id) <> j.failures""",
    "failed jobs without their dead letter, or the reverse": """
        SELECT 'job ' || j.id || ' is ' || j.status FROM jobs j
        LEFT JOIN dead_letters d ON d.job_id = j.id WHERE (j.status = 'failed') <> (d.job_id IS NOT NULL)""",
}
_JOBS = text("SELECT id, prompt, status, credits_quoted, credits_consumed FROM jobs")
_PICTURES = text("SELECT id, user_id, sha256 FROM images")


def problems(answers: Answers) -> dict[str, list[str]]:
    """Return what is wrong, by the check's name; empty when nothing was lost and nothing happened twice."""
    with db.transaction() as session:
        found = reconcile.problems(session)
        found |= {name: list(session.execute(text(query)).scalars()) for name, query in CHECKS.items()}
        found["orders that are not what the customer was told"] = _against_answers(session, answers)
        found["pictures whose bytes are not there"] = _lost_bytes(session)
        found["jobs whose events say otherwise"] = _against_events(session)
    found["answers that should not be"] = answers.wrong
    return {name: lines for name, lines in found.items() if lines}


def summary() -> dict[str, int]:
    """Return how many jobs came to what, and how many attempts there were, failed ones and pictures."""
    query = """
        SELECT status || coalesce(' ' || error_code, '') AS what, count(*) FROM jobs GROUP BY what
        UNION ALL SELECT 'attempts', sum(attempt) FROM jobs
        UNION ALL SELECT 'attempts failed ' || code, count(*) FROM job_attempts GROUP BY code
        UNION ALL SELECT 'pictures', count(*) FROM images"""
    with db.transaction() as session:
        return {str(what): int(count or 0) for what, count in session.execute(text(query))}


def _against_answers(session: Session, answers: Answers) -> list[str]:
    jobs = {row.id: row for row in session.execute(_JOBS)}
    wrong = []
    for number, job_id in answers.accepted.items():
        job = jobs.get(UUID(job_id))
        if job is None or job.prompt != f"order {number}":
            wrong.append(f"order {number} was accepted as {job_id}, which is not there")
        elif (job.credits_consumed or 0) > answers.told[number] or job.credits_quoted != answers.told[number]:
            wrong.append(f"order {number}: told {answers.told[number]}, charged {job.credits_consumed}")
    prompts = {job.prompt for job in jobs.values()}
    return wrong + [
        f"order {number} was refused and has a job"
        for number in answers.refused
        if f"order {number}" in prompts
    ]


def _lost_bytes(session: Session) -> list[str]:
    objects, wrong = storage.default(), []
    for image_id, user_id, sha256 in session.execute(_PICTURES):
        keys = [pictures.thumbnail_key(user_id, image_id, side) for side in pictures.THUMBNAIL_SIDES]
        original = pictures.original_key(user_id, image_id)
        if not all(map(objects.exists, [original, *keys])):
            wrong.append(f"picture {image_id} is not whole")
        elif hashlib.sha256(objects.get(original)).hexdigest() != sha256:
            wrong.append(f"picture {image_id} is another")
    return wrong


def _against_events(session: Session) -> list[str]:
    """Streams may be lost or cut short, but none may tell of two ends or of another one."""
    wrong = []
    for row in session.execute(_JOBS):
        ends = [_end(event) for event in events.read(row.id) if event.last]
        if ends and ends != [row.status]:
            wrong.append(f"job {row.id} is {row.status}, its events say {', '.join(ends)}")
    return wrong


def _end(event: Any) -> str:
    return str(event.data["status"])
