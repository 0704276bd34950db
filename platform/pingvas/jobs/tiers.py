"""Opening, pausing and draining a tier. The word is a row; each process reads it anew once a second."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from pingvas import audit, clock, db
from pingvas.billing.plans import Tier
from pingvas.cached import Cached
from pingvas.errors import Invalid, Unavailable
from pingvas.jobs.models import TierState

_READ_AGAIN_SECONDS: Final = 1.0
_RETRY_AFTER_SECONDS: Final = 60

# The share lock makes a resume wait: either it sees the row put aside, or this sees the tier open.
_PUT_ASIDE = text("""
    UPDATE jobs SET rung_at = NULL
    FROM (SELECT tier FROM tier_states WHERE state = 'paused' FOR SHARE) AS paused
    WHERE jobs.id = :id AND jobs.status = 'pending' AND jobs.tier = paused.tier""")


class State(StrEnum):
    """What operators have said of a tier."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"


class TierDraining(Unavailable):
    """No new job of this tier is accepted; those that wait still run."""

    code, title = "TIER_DRAINING", "This plan takes no new jobs for the moment"


@dataclass(frozen=True)
class Said:
    """A tier's state, since when, and by whom; the last two are None for one that was never changed."""

    state: State = State.OPEN
    changed_at: datetime | None = None
    changed_by: str | None = None


def change(tier: str, state: State, by: str) -> Said:
    """Set a tier's state and return what it was.

    After a resume, `sweep.refill_users` rings for what waited meanwhile; the next sweep does it anyway.

    Raises:
        Invalid: there is no such tier.
    """
    if tier not in set(Tier):
        raise Invalid(f"There is no tier {tier!r}; there are {', '.join(Tier)}.")
    values = {"state": state.value, "changed_at": clock.now(), "changed_by": by}
    upsert = insert(TierState).values(tier=tier, **values)
    with db.transaction() as session:
        before = _read(session)[Tier(tier)]
        session.execute(upsert.on_conflict_do_update(index_elements=["tier"], set_=values))
        told = {"before": {"state": before.state.value}, "after": {"state": state.value}}
        audit.record(session, by, "tiers.change", f"tier:{tier}", **told)
    _known.forget()
    return before


def states() -> dict[Tier, Said]:
    """Return every tier's state, highest tier first, from the database."""
    with db.transaction() as session:
        return _read(session)


def _read(session: Session) -> dict[Tier, Said]:
    rows = {
        row.tier: Said(State(row.state), row.changed_at, row.changed_by)
        for row in session.scalars(select(TierState))
    }
    return {tier: rows.get(tier.value, Said()) for tier in Tier}


_known = Cached(states, _READ_AGAIN_SECONDS)


def known(tier: str) -> State:
    """Return a tier's state as known a second ago at most. Costs a query a second."""
    return _known.get()[Tier(tier)].state


def known_paused() -> frozenset[str]:
    """Return the paused tiers, as known a second ago at most."""
    return frozenset(tier.value for tier, said in _known.get().items() if said.state is State.PAUSED)


def check_open(tier: str) -> None:
    """See that a tier takes new jobs, as far as is known.

    Raises:
        TierDraining: it does not.
    """
    if known(tier) is State.DRAINING:
        raise TierDraining(
            "New jobs of this plan are not taken for the moment; what waits will run.",
            retry_after=_RETRY_AFTER_SECONDS,
        )


def paused() -> Select[str]:
    """Return the query of the paused tiers, for the condition that keeps their jobs from starting."""
    return select(TierState.tier).where(TierState.state == State.PAUSED.value)


def put_aside(session: Session, job_id: UUID) -> None:
    """Forget that a pending job was rung, if its tier is paused."""
    session.execute(_PUT_ASIDE, {"id": job_id})
