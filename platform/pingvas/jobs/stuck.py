"""What does not move, and why: read from the rows, for operators."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import text

from pingvas import db, settings, workers
from pingvas.billing.plans import Tier
from pingvas.jobs import tiers
from pingvas.jobs.tiers import State

# The first row of each tier's part of an index; asking by tier walks past nothing.
_OLDEST = text("""
    SELECT extract(epoch FROM clock_timestamp() - created_at)::float AS waits,
           extract(epoch FROM run_after - clock_timestamp())::float AS due_in,
           extract(epoch FROM clock_timestamp() - rung_at)::float AS rung_ago
    FROM jobs WHERE status = 'pending' AND tier = :tier ORDER BY id LIMIT 1""")

_EXPIRED = text("""
    SELECT count(*) FROM jobs
    WHERE status = 'in_progress' AND lease_expires_at < clock_timestamp() - :overdue""")

_UNANSWERED = text("""
    SELECT count(*) FROM jobs WHERE status = 'pending' AND rung_at < clock_timestamp() - :silence""")

_SWEEPS_MISSED: Final = 3


@dataclass(frozen=True)
class Row:
    """A waiting job in seconds: since when, until it is due, since it was rung (None: it was not)."""

    waits: float
    due_in: float
    rung_ago: float | None


@dataclass(frozen=True)
class Oldest:
    """The job of a tier that waits longest, and what it waits for."""

    tier: Tier
    seconds: float
    why: str


def why(row: Row, *, paused: bool, served: bool, silence: float) -> str:
    """Return what a waiting job waits for. Pure."""
    if paused:
        return "the tier is paused"
    if not served:
        return "no worker serves the tier"
    if row.due_in > 0:
        return f"it is tried again in {row.due_in:.0f} s"
    if row.rung_ago is None:
        return "its customer's places are taken"
    if row.rung_ago > silence:
        return f"it was rung {row.rung_ago:.0f} s ago and no worker has taken it"
    return "its turn"


def oldest() -> list[Oldest]:
    """Return each tier's job that waits longest, highest tier first; tiers without one are left out."""
    said, live = tiers.states(), workers.live()
    found = []
    with db.transaction() as session:
        for tier in Tier:
            row = session.execute(_OLDEST, {"tier": tier.value}).one_or_none()
            if row is None:
                continue
            reason = why(
                Row(*row),
                paused=said[tier].state is State.PAUSED,
                served=any(tier in worker.tiers for worker in live),
                silence=settings.get().ring_again_seconds,
            )
            found.append(Oldest(tier, row.waits, reason))
    return found


def expired_leases() -> int:
    """Return how many running jobs lost their worker so long ago that sweeps must have missed them."""
    overdue = timedelta(seconds=_SWEEPS_MISSED * settings.get().sweep_seconds)
    with db.transaction() as session:
        return int(session.scalar(_EXPIRED, {"overdue": overdue}) or 0)


def unanswered() -> int:
    """Return how many waiting jobs were rung so long ago that a lost message would be sent again."""
    silence = timedelta(seconds=settings.get().ring_again_seconds)
    with db.transaction() as session:
        return int(session.scalar(_UNANSWERED, {"silence": silence}) or 0)
