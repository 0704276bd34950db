"""Pausing and draining a tier, on a real database and broker."""

from uuid import UUID

import pytest

from pingvas import db, settings
from pingvas.accounts.register import register
from pingvas.billing.plans import Tier
from pingvas.errors import Invalid
from pingvas.jobs import dispatch, lifecycle, submit, sweep, tiers
from pingvas.jobs.lifecycle import Failure
from pingvas.jobs.models import Job
from pingvas.jobs.submit import Order
from pingvas.jobs.tiers import State, TierDraining

pytestmark = pytest.mark.usefixtures("clean_db")

ORDER = Order(prompt="a red circle on a blue background", seed=1)


@pytest.fixture
def user_id() -> UUID:
    return register("artist@example.com", "correct horse battery").id


def submitted(user_id: UUID, tier: str = "free") -> UUID:
    return submit.submit(user_id, tier, ORDER).job_id


def row(job_id: UUID) -> Job:
    with db.transaction() as session:
        return session.get_one(Job, job_id)


def messages() -> int:
    return dispatch.depths()["free"]


def test_a_tier_is_open_until_somebody_says_otherwise() -> None:
    assert {said.state for said in tiers.states().values()} == {State.OPEN}
    assert tiers.change("free", State.PAUSED, by="ops").state is State.OPEN
    said = tiers.states()[Tier.FREE]
    assert (said.state, said.changed_by) == (State.PAUSED, "ops")
    assert said.changed_at is not None
    assert tiers.change("free", State.OPEN, by="ops").state is State.PAUSED
    with pytest.raises(Invalid, match="no tier 'gold'"):
        tiers.change("gold", State.PAUSED, by="ops")


def test_a_paused_tier_accepts_and_rings_nobody_until_it_is_open_again(user_id: UUID) -> None:
    before = messages()
    tiers.change("free", State.PAUSED, by="ops")
    job_id = submitted(user_id)
    sweep.sweep()
    assert (row(job_id).status, row(job_id).rung_at, messages()) == ("pending", None, before)
    tiers.change("free", State.OPEN, by="ops")
    assert sweep.refill_users() == 1
    assert row(job_id).rung_at is not None
    assert messages() == before + 1
    assert lifecycle.claim(job_id, "worker") is not None


def test_a_message_that_was_out_already_is_answered_and_the_job_waits(user_id: UUID) -> None:
    job_id = submitted(user_id)
    tiers.change("free", State.PAUSED, by="ops")
    assert lifecycle.claim(job_id, "worker") is None
    assert (row(job_id).status, row(job_id).rung_at, row(job_id).attempt) == ("pending", None, 0)
    tiers.change("free", State.OPEN, by="ops")
    assert sweep.refill_users() == 1
    assert lifecycle.claim(job_id, "worker") is not None


def test_a_paused_tier_stops_no_other_and_nothing_that_runs(user_id: UUID) -> None:
    held = lifecycle.claim(submitted(user_id), "worker")
    assert held is not None
    tiers.change("free", State.PAUSED, by="ops")
    assert lifecycle.fail(held, Failure("OUT_OF_MEMORY", "full", retryable=False)) is lifecycle.Outcome.DONE
    other = register("studio@example.com", "correct horse battery", tier="studio").id
    assert lifecycle.claim(submitted(other, "studio"), "worker") is not None


def test_a_paused_tiers_jobs_are_not_rung_again_however_long_they_are_silent(
    user_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings.Settings(ring_again_seconds=1e-6)
    job_id = submitted(user_id)
    before = row(job_id).rung_at
    tiers.change("free", State.PAUSED, by="ops")
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    assert sweep.ring_again() == 0
    assert row(job_id).rung_at == before


def test_a_draining_tier_takes_nothing_new_and_ends_what_waits(user_id: UUID) -> None:
    job_id = submitted(user_id)
    tiers.change("free", State.DRAINING, by="ops")
    with pytest.raises(TierDraining) as refused:
        submitted(user_id)
    assert (refused.value.status, refused.value.code) == (503, "TIER_DRAINING")
    assert int(refused.value.headers["Retry-After"]) > 0
    assert lifecycle.claim(job_id, "worker") is not None
