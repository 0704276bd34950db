"""What a subscription comes to: pure functions of facts, whatever the order in which those arrive."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pingvas.billing.plans import Tier

FAILURES = 3
"""So many payments in a row that fail end a plan."""


class Phase(StrEnum):
    """What is made of a subscription; `new`: nothing yet."""

    NEW = "new"
    RUNNING = "running"
    RESTING = "resting"
    ENDED = "ended"


_ENTITLED = frozenset({"on_trial", "active", "past_due"})


@dataclass(frozen=True)
class Snapshot:
    """What the provider says of a subscription at `updated_at`; `tier` is what will be paid for."""

    provider_id: str
    status: str
    tier: Tier
    interval: str
    created_at: datetime
    updated_at: datetime
    renews_at: datetime | None = None
    ends_at: datetime | None = None
    billing_day: int | None = None

    @property
    def order(self) -> tuple[datetime, int]:
        """Later snapshots are greater. Of two of one moment it is the one nearer to the end."""
        return self.updated_at, STATUSES.index(self.status)


STATUSES = ("on_trial", "active", "past_due", "unpaid", "paused", "cancelled", "expired")


@dataclass(frozen=True)
class Payment:
    """One attempt to collect an invoice."""

    paid: bool
    at: datetime


def phase(status: str, ends_at: datetime | None, payments: Collection[Payment], now: datetime) -> Phase:
    """Return what a subscription is: a cancelled one runs until it ends, three failed payments end any.

    A payment that was collected wipes out the failures before it.
    """
    if status == "paused":
        return Phase.RESTING
    entitled = status in _ENTITLED or (status == "cancelled" and ends_at is not None and now < ends_at)
    return Phase.RUNNING if entitled and failures(payments) < FAILURES else Phase.ENDED


def failures(payments: Collection[Payment]) -> int:
    """Return how many payments have failed since the last one that was collected."""
    last = max((payment.at for payment in payments if payment.paid), default=None)
    return sum(1 for it in payments if not it.paid and (last is None or it.at > last))


def best(tier: Tier, best_tier: Tier, best_until: datetime, now: datetime) -> Tier:
    """Return the plan in force: what was paid for stays to its term's end, though less is paid for next."""
    return max(tier, best_tier, key=lambda it: it.rank) if now < best_until else tier
