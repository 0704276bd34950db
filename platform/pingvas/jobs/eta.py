"""How long a new job will wait: what is ahead of it, times what recent jobs took."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from pingvas import db
from pingvas.billing.plans import Tier

DEFAULT_SECONDS = 2.0  # before anything was measured


@dataclass(frozen=True)
class Wait:
    """Seconds until a job starts: median and 90th percentile."""

    p50: float
    p90: float


_RECENT = text("""
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds),
           percentile_cont(0.9) WITHIN GROUP (ORDER BY seconds)
    FROM (SELECT extract(epoch FROM completed_at - started_at) AS seconds FROM jobs
          WHERE status = 'completed' ORDER BY completed_at DESC LIMIT 100) AS recent""")

_AHEAD = text("""
    SELECT (SELECT count(*) FROM jobs WHERE status = 'pending' AND tier = ANY(:tiers))
         + (SELECT count(*) FROM jobs WHERE status = 'in_progress')""")


def estimate(session: Session, tier: str) -> Wait:
    """Estimate the wait of a job that joins the end of a tier's queue."""
    served_first = [other.value for other in Tier if other.rank >= Tier(tier).rank]
    ahead = session.scalar(_AHEAD, {"tiers": served_first}) or 0
    p50, p90 = session.execute(_RECENT).one()
    return Wait(
        p50=round(ahead * float(p50 if p50 is not None else DEFAULT_SECONDS), 1),
        p90=round(ahead * float(p90 if p90 is not None else DEFAULT_SECONDS), 1),
    )


def of_tier(tier: str) -> Wait:
    """Estimate as `estimate` does, in a unit of work of its own."""
    with db.transaction() as session:
        return estimate(session, tier)
