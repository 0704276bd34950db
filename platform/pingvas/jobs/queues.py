"""What waits and runs in each tier, by the truth of the database."""

from dataclasses import dataclass

from sqlalchemy import text

from pingvas import db
from pingvas.billing.plans import Tier
from pingvas.jobs import eta

_COUNTS = text("""
    SELECT tier, sum(waiting), sum(running) FROM (
        SELECT tier, count(*) AS waiting, 0 AS running FROM jobs WHERE status = 'pending' GROUP BY tier
        UNION ALL
        SELECT tier, 0, count(*) FROM jobs WHERE status = 'in_progress' GROUP BY tier) AS counts
    GROUP BY tier""")  # a partial index answers each half


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
        counts = {row[0]: (int(row[1]), int(row[2])) for row in session.execute(_COUNTS)}
    return [TierQueue(tier.value, *counts.get(tier.value, (0, 0)), eta.of_tier(tier)) for tier in Tier]
