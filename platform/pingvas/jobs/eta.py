"""How long a new job will wait: the jobs ahead, by what recent jobs took and how many run at once."""

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

_LOAD = text("""
    SELECT (SELECT count(*) FROM jobs WHERE status = 'pending' AND tier = ANY(:tiers)),
           (SELECT count(*) FROM jobs WHERE status = 'in_progress')""")


def estimate(session: Session, tier: str) -> Wait:
    """Estimate the wait of a job that joins the end of a tier's queue."""
    p50, p90 = service_seconds(session)
    served_first = [other.value for other in Tier if other.rank >= Tier(tier).rank]
    waiting, running = session.execute(_LOAD, {"tiers": served_first}).one()
    # While anything waits, what runs is what workers can run; the next place is free in half a job's time.
    turns = waiting / max(1, running) + (0.5 if waiting and running else 0)
    return Wait(p50=round(turns * p50, 1), p90=round(turns * p90, 1))


def service_seconds(session: Session) -> tuple[float, float]:
    """Return what the last hundred jobs took, in seconds: median and 90th percentile."""
    p50, p90 = session.execute(_RECENT).one()
    return (DEFAULT_SECONDS, DEFAULT_SECONDS) if p50 is None else (float(p50), float(p90))


def of_tier(tier: str) -> Wait:
    """Estimate as `estimate` does, in a unit of work of its own."""
    with db.transaction() as session:
        return estimate(session, tier)
