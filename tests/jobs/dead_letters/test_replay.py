"""A replay is a new job under a new hold, once; whoever cannot pay is refused."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from pingvas import audit, clock, db
from pingvas.billing import ledger
from pingvas.errors import InsufficientCredits
from pingvas.jobs import finding as jobs_finding
from pingvas.jobs import lifecycle, tiers
from pingvas.jobs.dead_letters import finding, replay
from pingvas.jobs.dead_letters.finding import Filter
from pingvas.jobs.dead_letters.models import DeadLetter
from pingvas.jobs.tiers import State
from tests.jobs.dead_letters.conftest import STORE, fail_all, failed, letter, lose_worker
from tests.jobs.test_lifecycle import claimed, picture, row, spendable, submitted


def opened(job_id: UUID) -> DeadLetter:
    found = letter(job_id)
    assert found is not None
    return found


def make_replay_due(job_id: UUID) -> None:
    with db.transaction() as session:
        session.execute(
            text("UPDATE dead_letters SET replay_after = clock_timestamp() WHERE job_id = :id"),
            {"id": job_id},
        )


def replayed(job_id: UUID) -> UUID:
    made = opened(job_id).replayed_as
    assert made is not None
    return made


def spend_all(user_id: UUID) -> None:
    left = spendable(user_id)
    with db.transaction() as session:
        legs = {ledger.Account.MONTHLY: -left, ledger.Account.REVENUE: left}
        ledger.post(session, user_id, "test:spent", "adjustment", legs)


def test_a_replay_is_the_same_order_under_a_fresh_hold(user_id: UUID) -> None:
    job_id = failed(user_id)
    new_id = replay.replay(job_id, "ada@desk")
    assert new_id is not None
    old, new = row(job_id), row(new_id)
    assert (old.status, new.status) == ("failed", "pending")
    assert (new.prompt, new.model, new.parameters) == (old.prompt, old.model, old.parameters)
    assert spendable(user_id) == 90
    assert lifecycle.complete(claimed(new_id), [picture()], 2.4) is lifecycle.Outcome.DONE
    assert spendable(user_id) == 97


def test_replaying_twice_at_once_replays_once(user_id: UUID) -> None:
    job_id = failed(user_id)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: replay.replay(job_id, "ada@desk"), range(8)))
    assert [one for one in made if one] == [replayed(job_id)]
    assert replay.replay(job_id, "ada@desk") is None
    assert spendable(user_id) == 90


def test_whoever_cannot_pay_is_refused(user_id: UUID) -> None:
    job_id = failed(user_id)
    spend_all(user_id)
    with pytest.raises(InsufficientCredits):
        replay.replay(job_id, "ada@desk")
    assert opened(job_id).state == "open"
    make_replay_due(job_id)
    assert replay.replay_due() == replay.Pass(replayed=0, refused=1)
    assert replay.replay_due() == replay.Pass(0, 0)
    refused = opened(job_id)
    assert "0 are available" in (refused.refusal or "")
    ledger.grant(user_id, 10, business_key="test:gift")
    make_replay_due(job_id)
    assert replay.replay_due() == replay.Pass(1, 0)


def test_a_replay_costs_no_more_than_was_quoted(user_id: UUID) -> None:
    job_id = failed(user_id)
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET credits_quoted = 9 WHERE id = :id"), {"id": job_id})
        session.execute(text("UPDATE holds SET quote = 9, monthly = 9 WHERE job_id = :id"), {"id": job_id})
    with pytest.raises(replay.PriceRose):
        replay.replay(job_id, "ada@desk")
    assert spendable(user_id) == 100


def test_beat_replays_three_times_with_growing_delays(user_id: UUID) -> None:
    job_id, delays = failed(user_id), []
    while (due := opened(job_id).replay_after) is not None:
        delays.append(round((due - clock.now()).total_seconds(), -1))
        assert replay.replay_due() == replay.Pass(0, 0)  # too early
        make_replay_due(job_id)
        assert replay.replay_due() == replay.Pass(1, 0)
        job_id = fail_all(replayed(job_id), STORE)
    assert delays == [60, 600, 3_600]
    assert opened(job_id).state == "open"
    assert spendable(user_id) == 100


def test_poison_is_never_replayed_by_beat_and_by_hand_gets_one_chance(user_id: UUID) -> None:
    job_id = submitted(user_id)
    lose_worker(job_id, "worker-1")
    lose_worker(job_id, "worker-2")
    assert opened(job_id).replay_after is None
    new_id = replay.replay(job_id, "ada@desk")
    assert new_id is not None
    lose_worker(new_id, "worker-3")
    assert opened(new_id).class_ == "poison"


def test_one_letter_that_cannot_be_replayed_does_not_stop_the_others(user_id: UUID) -> None:
    broken, sound = failed(user_id), failed(user_id)
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET model = 'gone' WHERE id = :id"), {"id": broken})
    for job_id in (broken, sound):
        make_replay_due(job_id)
    assert replay.replay_due() == replay.Pass(replayed=1, refused=1)


def test_a_refusal_that_passes_is_asked_again_at_the_next_tick(user_id: UUID) -> None:
    job_id = failed(user_id)
    make_replay_due(job_id)
    tiers.change("free", State.DRAINING, by="ada@desk")
    assert replay.replay_due() == replay.Pass(replayed=0, refused=1)
    assert opened(job_id).refusal
    tiers.change("free", State.OPEN, by="ada@desk")
    assert replay.replay_due() == replay.Pass(1, 0)


def test_nobody_is_charged_for_a_picture_of_yesterday(user_id: UUID) -> None:
    job_id = failed(user_id)
    make_replay_due(job_id)
    with db.transaction() as session:
        session.execute(text("UPDATE dead_letters SET created_at = created_at - interval '25 hours'"))
    assert replay.replay_due() == replay.Pass(0, 0)
    assert opened(job_id).state == "open"


def test_every_act_leaves_a_line_that_nobody_can_change(user_id: UUID) -> None:
    first, second = failed(user_id), failed(user_id)
    new_id = replay.replay(first, "ada@desk")
    assert replay.drop(second, "ada@desk")
    assert not replay.drop(second, "ada@desk")
    with db.transaction() as session:
        (act,) = audit.of_subject(session, f"job:{first}")
        assert (act.actor, act.action) == ("ada@desk", "dead_letter.replay")
        assert act.after == {"state": "replayed", "replayed_as": str(new_id)}
        (act,) = audit.of_subject(session, f"job:{second}")
        assert (act.action, act.after) == ("dead_letter.drop", {"state": "dropped"})
    with pytest.raises(SQLAlchemyError, match="append-only"), db.transaction() as session:
        session.execute(text("DELETE FROM audit_log"))


def test_letters_are_found_by_filter_and_previewed(user_id: UUID) -> None:
    poor = failed(user_id)
    failed(user_id, lifecycle.Failure("OUT_OF_MEMORY", "The GPU is full.", retryable=True))
    wanted: dict[str, Filter] = {
        "class": Filter(class_="infrastructure"),
        "code": Filter(code="STORE_UNAVAILABLE"),
        "both": Filter(class_="infrastructure", tier="free", before=clock.now()),
    }
    found = {name: [one.job_id for one in finding.matching(filter_)] for name, filter_ in wanted.items()}
    assert set(map(tuple, found.values())) == {(poor,)}
    assert finding.matching(Filter(tier="pro")) == []
    ids = [one.job_id for one in finding.matching(Filter())]
    assert finding.preview(ids) == finding.Preview(jobs=2, credits=20, cannot_pay=0)
    spend_all(user_id)
    assert finding.preview(ids).cannot_pay == 1


def test_a_job_and_its_replay_name_each_other(user_id: UUID) -> None:
    first = failed(user_id)
    again = replay.replay(first, "an operator")
    assert again is not None
    assert jobs_finding.one(user_id, again).job.replay_of == first
    assert jobs_finding.one(user_id, first).replayed_by == again
    assert jobs_finding.one(user_id, again).replayed_by is None
