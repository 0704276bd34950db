"""A job that runs for too long is taken back, also from a worker that lives, and tried once more."""

from uuid import UUID

import pytest
from sqlalchemy import text

from pingvas import db
from pingvas.accounts.register import register
from pingvas.billing import plans
from pingvas.billing.plans import Tier
from pingvas.jobs import deadlines, lifecycle, sweep
from pingvas.jobs.dead_letters.models import DeadLetter
from pingvas.jobs.lifecycle import Outcome
from tests.jobs.dead_letters.conftest import attempts
from tests.jobs.eta import rows
from tests.jobs.test_lifecycle import claimed, make_due, picture, row, spendable, submitted

pytestmark = pytest.mark.usefixtures("clean_db")


@pytest.fixture
def user_id() -> UUID:
    return register("artist@example.com", "correct horse battery").id


def pass_deadline(job_id: UUID) -> None:
    with db.transaction() as session:
        session.execute(
            text("UPDATE jobs SET deadline_at = clock_timestamp() - interval '1 s' WHERE id = :id"),
            {"id": job_id},
        )


def test_the_plan_the_setting_and_the_quote_say_how_long() -> None:
    assert plans.of("enterprise").job_deadline_seconds == 900
    assert plans.of("free").job_deadline_seconds is None
    assert deadlines.seconds("enterprise", 10) == 900
    assert deadlines.seconds("free", 10) == 300
    assert deadlines.seconds("free", 200) == 400


@pytest.mark.parametrize(
    ("tier", "quote", "seconds"), [("enterprise", 0, 900), ("free", 10, 300), ("pro", 200, 400)]
)
def test_the_row_says_what_the_worker_is_told(user_id: UUID, tier: str, quote: int, seconds: int) -> None:
    job_id = submitted(user_id)
    with db.transaction() as session:
        values = {"tier": tier, "quote": quote, "id": job_id}
        session.execute(text("UPDATE jobs SET tier = :tier, credits_quoted = :quote WHERE id = :id"), values)
    held = claimed(job_id)
    with db.transaction() as session:
        left = session.scalar(text("SELECT extract(epoch FROM deadline_at - clock_timestamp()) FROM jobs"))
    assert left == pytest.approx(seconds, abs=10)
    assert held.running_seconds == seconds


def test_a_live_worker_loses_a_job_that_runs_for_too_long(user_id: UUID) -> None:
    held = claimed(submitted(user_id))
    assert sweep.take_back_overdue() == 0
    pass_deadline(held.job_id)
    assert lifecycle.renew(held) is Outcome.DONE  # it lives
    assert sweep.take_back_overdue() == 1
    assert lifecycle.renew(held) is Outcome.STALE
    assert lifecycle.complete(held, [picture()], 400) is Outcome.STALE
    job = row(held.job_id)
    assert (job.status, job.failures) == ("pending", 1)
    assert spendable(user_id) == 90


def test_the_second_miss_is_the_last(user_id: UUID) -> None:
    job_id = submitted(user_id)
    for _ in range(2):
        make_due(job_id)
        claimed(job_id)
        pass_deadline(job_id)
        assert sweep.take_back_overdue() == 1
    job = row(job_id)
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "DEADLINE_EXCEEDED", False)
    assert [one.code for one in attempts(job_id)] == ["DEADLINE_EXCEEDED"] * 2
    with db.transaction() as session:
        letter = session.get_one(DeadLetter, job_id)
    assert (letter.class_, letter.replay_after) == ("resource", None)
    assert spendable(user_id) == 100


def test_it_is_one_rule_whoever_notices_first(user_id: UUID) -> None:
    job_id = submitted(user_id)
    held = claimed(job_id)
    assert lifecycle.miss(held, TimeoutError("at its step")) is Outcome.RETRY
    assert lifecycle.take_back(held) is Outcome.STALE
    make_due(job_id)
    held = claimed(job_id)
    pass_deadline(job_id)
    assert sweep.take_back_overdue() == 1
    assert lifecycle.miss(held) is Outcome.STALE
    assert row(job_id).status == "failed"
    assert "at its step" in attempts(job_id)[0].traceback


def test_a_deadline_that_was_postponed_is_not_missed(user_id: UUID) -> None:
    held = claimed(submitted(user_id))
    pass_deadline(held.job_id)
    assert lifecycle.postpone(held, 60) is Outcome.DONE
    assert lifecycle.take_back(held) is Outcome.STALE
    assert sweep.take_back_overdue() == 0
    assert lifecycle.complete(held, [picture()], 1) is Outcome.DONE


def test_the_sweep_finds_them_by_an_index(user_id: UUID) -> None:
    rows.insert(user_id, 2_000, status="completed")
    rows.insert(user_id, 100, status="in_progress")
    rows.analyse()
    with db.transaction() as session:
        plan = session.execute(text(f"EXPLAIN {sweep._OVERDUE.text}"), {"batch": 1}).scalars().all()
    assert any("ix_jobs_deadline" in line for line in plan), plan


def test_every_tier_has_a_deadline() -> None:
    assert {tier: deadlines.seconds(tier, 0) > 0 for tier in Tier} == dict.fromkeys(Tier, True)
