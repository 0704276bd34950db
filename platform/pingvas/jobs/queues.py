"""What waits and runs in each tier, by the truth of the database."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, bindparam, text

from pingvas import db
from pingvas.billing.plans import Tier
from pingvas.jobs import eta

EXACT = 1_000  # waiting jobs of a tier up to which the count is exact at any moment
_FIRST = UUID(int=0)

_WAITING = text("""
    SELECT wanted.tier, (
        SELECT count(*) FROM job_queue WHERE status = 'pending' AND tier = wanted.tier AND id > wanted.mark)
    FROM unnest(:tiers, :marks) AS wanted (tier, mark)""").bindparams(
    bindparam("tiers", type_=ARRAY(Text)), bindparam("marks", type_=ARRAY(Uuid))
)
_RUNNING = text("SELECT tier, count(*) FROM job_queue WHERE status = 'in_progress' GROUP BY tier")


@dataclass(frozen=True)
class TierQueue:
    """One tier's queue, in jobs; `wait` is the estimate for a job that joins it now."""

    tier: str
    waiting: int
    running: int
    wait: eta.Wait


def snapshot() -> list[TierQueue]:
    """Return the five queues, highest tier first.

    Of a queue beyond a thousand jobs only the end is counted anew; what waits before it is as it was a few
    seconds ago, so that a long queue is as quickly told as a short one.
    """
    marks = {tier.value: eta.counted(tier.value, beyond=EXACT) for tier in Tier}
    values = {"tiers": list(marks), "marks": [mark or _FIRST for mark, _ in marks.values()]}
    with db.transaction() as session:
        waiting = {row[0]: row[1] for row in session.execute(_WAITING, values)}
        running = {row[0]: row[1] for row in session.execute(_RUNNING)}
    return [
        TierQueue(name, before + waiting[name], running.get(name, 0), eta.of_tier(name))
        for name, (_, before) in marks.items()
    ]
