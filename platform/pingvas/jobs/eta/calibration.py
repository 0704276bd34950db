"""What jobs were told when they were accepted, held against when they started."""

from dataclasses import dataclass

from sqlalchemy import text

from pingvas import db
from pingvas.billing.plans import Tier
from pingvas.jobs.eta.picture import first_id

DAY_SECONDS = 86_400

# Only first attempts: of a job that was tried again, the row no longer knows its first start.
_TOLD = text("""
    SELECT tier, count(*) AS jobs,
           avg((waited <= eta_p50)::int)::float AS before_p50,
           avg((waited <= eta_p90)::int)::float AS before_p90,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY waited / greatest(eta_p50, 0.001)) AS median_ratio,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY waited) AS median_wait
    FROM (
        SELECT tier, eta_p50, eta_p90, extract(epoch FROM started_at - created_at)::float AS waited FROM jobs
        WHERE id > :since AND attempt = 1 AND started_at IS NOT NULL AND eta_p50 IS NOT NULL
    ) AS started GROUP BY tier""")


@dataclass(frozen=True)
class Calibration:
    """How one tier's predictions did. Right are 0.5, 0.9 and a `median_ratio` (actual ÷ predicted) of 1.

    `before_p50` and `before_p90` are shares of its jobs, `median_wait` is what they waited, in seconds.
    """

    tier: str
    jobs: int
    before_p50: float
    before_p90: float
    median_ratio: float
    median_wait: float


def report(seconds: float = DAY_SECONDS) -> list[Calibration]:
    """Return how the predictions of the last day did, highest tier first; tiers without jobs are left out."""
    with db.transaction() as session:
        rows = session.execute(_TOLD, {"since": first_id(seconds)}).all()
    return sorted((Calibration(*row) for row in rows), key=lambda told: -Tier(told.tier).rank)
