"""Where a waiting job stands, at a price that does not grow with the queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Boolean, Text, Uuid, bindparam, text
from sqlalchemy.orm import Session

from pingvas.jobs.eta.picture import Marks, Picture

MOST = 1_000  # rows that are counted for one job
_FIRST = UUID(int=0)

_COUNT = text(f"""
    SELECT place.waiting, place.rung, own.earlier, own.seconds
    FROM unnest(:ids, :tiers, :marks, :unrung) WITH ORDINALITY AS wanted (id, tier, mark, unrung, n)
    CROSS JOIN LATERAL (
        SELECT count(*) AS waiting, count(rung_at) AS rung FROM (
            SELECT rung_at FROM job_queue
            WHERE status = 'pending' AND tier = wanted.tier AND id > wanted.mark AND id < wanted.id
            ORDER BY id LIMIT {MOST}) AS before
    ) AS place
    CROSS JOIN LATERAL (
        SELECT count(*) AS earlier, coalesce(sum(seconds), 0) AS seconds FROM (
            SELECT CASE status WHEN 'pending' THEN run_seconds ELSE run_seconds / 2 END AS seconds
            FROM job_queue WHERE wanted.unrung AND user_id = :user AND id < wanted.id
            AND status IN ('pending', 'in_progress') LIMIT {MOST}) AS open
    ) AS own ORDER BY wanted.n""").bindparams(  # noqa: S608 (a number of this module)
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("tiers", type_=ARRAY(Text)),
    bindparam("marks", type_=ARRAY(Uuid)),
    bindparam("unrung", type_=ARRAY(Boolean)),
    bindparam("user", type_=Uuid),
)


@dataclass(frozen=True)
class Standing:
    """Jobs of the tier that came earlier and wait, those of them on the broker, and the user's own open ones
    (counted for a job that waits for its user's turn), with the seconds that these are expected to run yet.
    """

    waiting: int
    rung: int
    own: int
    own_seconds: float


def count(session: Session, picture: Picture, user_id: UUID, jobs: Sequence[Any]) -> list[Standing]:
    """Return how each of a user's waiting jobs stands.

    Up to the first mark of the picture (100 jobs) the count is exact. Beyond, the jobs up to the last mark
    before the job are counted as they were when the picture was taken, the rest is exact up to 1,000.
    """
    begun = [picture.marks.get(job.tier, Marks()).before(job.id) for job in jobs]
    values = {
        "ids": [job.id for job in jobs],
        "tiers": [job.tier for job in jobs],
        "marks": [mark or _FIRST for mark, _, _ in begun],
        "unrung": [job.rung_at is None for job in jobs],
        "user": user_id,
    }
    rows = session.execute(_COUNT, values)
    return [
        Standing(waiting + row.waiting, rung + row.rung, row.earlier, row.seconds)
        for (_, waiting, rung), row in zip(begun, rows, strict=True)
    ]
