"""Jobs of any price: accepted as a submit does it, ended as a worker does."""

from uuid import UUID

from sqlalchemy import text

from pingvas import clock, db, ids
from pingvas.billing import ledger, plans
from pingvas.billing.plans import Tier
from pingvas.jobs import accepting

_ENDED = text("""
    UPDATE jobs SET status = 'completed', credits_consumed = :cost, completed_at = :now WHERE id = :job""")


def hold(user_id: UUID, quote: int, *, metered: bool = False) -> UUID:
    """Accept a job at this quote and return its id.

    Raises:
        InsufficientCredits: the wallet has less.
    """
    tier = Tier.ENTERPRISE if metered else Tier.STUDIO
    job_id = ids.new()
    draft = {
        "id": str(job_id),
        "posting": str(ids.new()),
        "priority": "interactive",
        "model": "tiny",
        "prompt": "a red circle",
        "parameters": {"width": 128, "height": 128, "steps": 12, "num_images": 1},
        "quote": quote,
        "eta_p50": 1,
        "eta_p90": 1,
        "eta_turn": 1,
        "run_seconds": 1,
    }
    values = {"customer": str(user_id), "tier": tier, "metered": metered, "jobs": [draft], "call": None}
    accepting.check(accepting.accept(values), values, plans.of(tier))
    return job_id


def settle(job_id: UUID, cost: int) -> int:
    """End a job that took so many GPU seconds; return what it was charged."""
    with db.transaction() as session:
        charged = ledger.settle(session, job_id, cost)
        session.execute(_ENDED, {"cost": charged, "now": clock.now(), "job": job_id})
    return charged
