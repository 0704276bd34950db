"""What waits and runs in each tier, by the truth of the database."""

from dataclasses import dataclass

from sqlalchemy import text

from pingvas import db
from pingvas.billing.plans import Tier
from pingvas.jobs import eta

_COUNTS = text("""
    SELECT tier, count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'in_progress')
    FROM jobs WHERE status IN ('pending', 'in_progress') GROUP BY tier""")


@dataclass(frozen=True)
class TierQueue:
    """One tier's queue, in jobs; `wait` is the estimate for a job that joins it now."""

    tier: str
    waiting: int
    running: int
    wait: eta.Wait


def snapshot() -> list[TierQueue]:
    """Return the five queues, highest tier first."""
    with db.transaction() as session:
        counts = {row[0]: (row[1], row[2]) for row in session.execute(_COUNTS)}
        return [
            TierQueue(tier.value, *counts.get(tier.value, (0, 0)), eta.estimate(session, tier))
            for tier in Tier
        ]
