"""Transitions of a job on a real database: each happens once, whoever else tries."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from celery import Celery
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from pingvas import clock, db, ids, settings
from pingvas.accounts.register import register
from pingvas.billing import reconcile, wallets
from pingvas.errors import NotFound, QueueFull
from pingvas.gallery.pictures import Stored
from pingvas.jobs import dispatch, finding, lifecycle, submit, sweep
from pingvas.jobs.dispatch import broker, ringer
from pingvas.jobs.dispatch.broker import celery
from pingvas.jobs.lifecycle import Claim, Failure, Outcome
from pingvas.jobs.models import Job
from pingvas.jobs.submit import Order

pytestmark = pytest.mark.usefixtures("clean_db")

TRANSIENT = Failure("OUT_OF_MEMORY", "The GPU is full.", retryable=True)
FINAL = Failure("MODEL_UNAVAILABLE", "There is no such model.", retryable=False)
ORDER = Order(prompt="a red circle on a blue background", seed=1)


@pytest.fixture
def user_id() -> UUID:
    return register("artist@example.com", "correct horse battery").id


@pytest.fixture(autouse=True)
def _books_balance_in_the_end() -> Iterator[None]:
    yield
    with db.transaction() as session:
        assert reconcile.problems(session) == {}


def submitted(user_id: UUID, tier: str = "free") -> UUID:
    job_id = submit.submit(user_id, tier, ORDER).job_id
    dispatch.flush()
    return job_id


def claimed(job_id: UUID, worker: str = "worker-1") -> Claim:
    held = lifecycle.claim(job_id, worker)
    assert held is not None
    return held


def picture() -> Stored:
    return Stored(ids.new(), 128, 128, 1, 1_000, "0" * 64)


def row(job_id: UUID) -> Job:
    with db.transaction() as session:
        job = session.get(Job, job_id)
    assert job is not None
    return job


def spendable(user_id: UUID) -> int:
    with db.transaction() as session:
        wallet = wallets.read(session, user_id)
        return wallet.monthly + wallet.purchased


def make_due(job_id: UUID) -> None:
    """Let a back-off or a lease have passed."""
    past = clock.now() - timedelta(seconds=1)
    with db.transaction() as session:
        session.execute(
            text("""UPDATE jobs SET run_after = :past,
                    lease_expires_at = CASE WHEN status = 'in_progress' THEN :past END WHERE id = :id"""),
            {"past": past, "id": job_id},
        )


def test_a_job_is_charged_what_it_used(user_id: UUID) -> None:
    job_id = submitted(user_id)
    assert spendable(user_id) == 90
    assert lifecycle.complete(claimed(job_id), [picture()], 2.4) is Outcome.DONE
    job = row(job_id)
    assert (job.status, job.credits_consumed, job.gpu_seconds) == ("completed", 3, 2.4)
    assert spendable(user_id) == 97
    assert len(finding.one(user_id, job_id).images) == 1


def test_a_doubled_message_finds_nothing_to_claim(user_id: UUID) -> None:
    job_id = submitted(user_id)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: lifecycle.claim(job_id, f"worker-{n}"), range(16)))
    assert sum(held is not None for held in claims) == 1
    assert lifecycle.claim(ids.new(), "worker") is None


def test_a_zombie_changes_nothing(user_id: UUID) -> None:
    job_id = submitted(user_id)
    zombie = claimed(job_id)
    make_due(job_id)
    assert sweep.return_leases() == 1
    heir = claimed(job_id, "worker-2")
    assert heir.attempt == zombie.attempt + 1
    assert lifecycle.renew(zombie) is Outcome.STALE
    assert lifecycle.renew(heir) is Outcome.DONE
    assert lifecycle.complete(zombie, [picture()], 1) is Outcome.STALE
    assert lifecycle.fail(zombie, FINAL) is Outcome.STALE
    assert lifecycle.hand_back(zombie) is Outcome.STALE
    assert lifecycle.cancelled(zombie, 1.0) is Outcome.STALE
    assert lifecycle.complete(heir, [picture()], 1) is Outcome.DONE
    assert spendable(user_id) == 99


def test_a_transient_failure_is_retried_with_back_off_and_then_final(user_id: UUID) -> None:
    job_id = submitted(user_id)
    delays = []
    for _ in range(2):
        held = claimed(job_id)
        assert lifecycle.fail(held, TRANSIENT) is Outcome.RETRY
        delays.append(round((row(job_id).run_after - clock.now()).total_seconds()))
        if delays[-1] > 0:
            assert lifecycle.claim(job_id, "too early") is None
        make_due(job_id)
    assert delays == [0, 30]
    assert lifecycle.fail(claimed(job_id), TRANSIENT) is Outcome.DONE
    job = row(job_id)
    assert (job.status, job.error_code, job.attempt, job.credits_consumed) == (
        "failed",
        "OUT_OF_MEMORY",
        3,
        0,
    )
    assert spendable(user_id) == 100


def test_a_failure_of_the_customers_making_is_final_at_once(user_id: UUID) -> None:
    job_id = submitted(user_id)
    assert lifecycle.fail(claimed(job_id), FINAL) is Outcome.DONE
    assert row(job_id).status == "failed"
    assert spendable(user_id) == 100


def test_a_lease_that_was_renewed_after_all_is_not_taken(user_id: UUID) -> None:
    held = claimed(submitted(user_id))
    make_due(held.job_id)
    assert lifecycle.renew(held) is Outcome.DONE
    assert lifecycle.lost(held) is Outcome.STALE
    assert sweep.return_leases() == 0
    assert row(held.job_id).status == "in_progress"


def test_a_rung_job_is_due_whatever_the_clock_of_the_worker_says(user_id: UUID) -> None:
    job_id = submitted(user_id)
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET run_after = run_after + interval '1 minute'"))
    assert lifecycle.claim(job_id, "worker") is not None


def test_the_sweep_refills_those_with_a_free_place_first(user_id: UUID) -> None:
    """Users whose places are taken have due jobs all the time; they must not crowd the others out."""
    for number in range(3):
        busy = register(f"busy-{number}@example.com", "correct horse battery").id
        submitted(busy), submitted(busy)
    job_id = submitted(user_id)
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET rung_at = NULL WHERE id = :id"), {"id": job_id})
    assert sweep.refill_users() == 1
    assert row(job_id).rung_at is not None


def test_one_bad_row_does_not_stop_the_sweep(user_id: UUID) -> None:
    victim = register("victim@example.com", "correct horse battery").id
    for owner in (victim, user_id):
        make_due(claimed(submitted(owner)).job_id)
    with db.transaction() as session:
        session.execute(text("DELETE FROM wallets WHERE user_id = :id"), {"id": victim})
    assert sweep.return_leases() == 1
    with db.transaction() as session:
        session.execute(text("DELETE FROM jobs WHERE user_id = :id"), {"id": victim})
        session.execute(text("DELETE FROM holds WHERE user_id = :id"), {"id": victim})


def test_a_job_handed_back_has_not_failed(user_id: UUID) -> None:
    job_id = submitted(user_id)
    for _ in range(5):
        assert lifecycle.hand_back(claimed(job_id)) is Outcome.RETRY
    job = row(job_id)
    assert (job.status, job.attempt, job.failures) == ("pending", 5, 0)


def test_a_job_handed_back_is_at_the_head_of_its_queue(user_id: UUID) -> None:
    others = [register(f"other-{number}@example.com", "correct horse battery").id for number in range(2)]
    first, *_ = [submitted(owner) for owner in (user_id, *others)]
    held = claimed(first)
    with redis.Redis.from_url(settings.get().broker_url) as queue:
        queue.delete(*queue.keys("free*"))  # what was rung before
        later = submitted(register("later@example.com", "correct horse battery").id)
        assert lifecycle.hand_back(held) is Outcome.RETRY
        keys = [f"free\x06\x16{rank}" if rank else "free" for rank in (0, 3, 6)]  # as a worker looks
        taken: list[Any] = [queue.brpop(keys, timeout=5) for _ in range(2)]
    said = [json.loads(body)["headers"]["argsrepr"] for _, body in taken]
    assert [str(first) in said[0], str(later) in said[1]] == [True, True]


def test_cancelling_a_waiting_job_releases_its_hold(user_id: UUID) -> None:
    job_id = submitted(user_id)
    assert lifecycle.cancel(user_id, job_id) is Outcome.DONE
    assert lifecycle.cancel(user_id, job_id) is Outcome.DONE
    assert spendable(user_id) == 100
    assert lifecycle.claim(job_id, "worker") is None


def test_cancelling_a_running_job_asks_its_worker(user_id: UUID) -> None:
    job_id = submitted(user_id)
    held = claimed(job_id)
    assert lifecycle.cancel(user_id, job_id) is Outcome.ASKED
    assert lifecycle.renew(held) is Outcome.ASKED
    assert lifecycle.cancelled(held, 1.5) is Outcome.DONE
    job = row(job_id)
    assert (job.status, job.credits_consumed, job.gpu_seconds) == ("cancelled", 2, 1.5)
    assert spendable(user_id) == 98


def test_a_cancelled_job_is_not_retried_when_its_worker_is_lost(user_id: UUID) -> None:
    job_id = submitted(user_id)
    claimed(job_id)
    lifecycle.cancel(user_id, job_id)
    make_due(job_id)
    sweep.return_leases()
    assert row(job_id).status == "cancelled"
    assert spendable(user_id) == 100


def test_other_peoples_jobs_do_not_exist(user_id: UUID) -> None:
    job_id = submitted(user_id)
    stranger = register("stranger@example.com", "correct horse battery").id
    with pytest.raises(NotFound):
        lifecycle.cancel(stranger, job_id)
    with pytest.raises(NotFound):
        finding.one(stranger, job_id)


def test_a_user_has_no_more_jobs_on_the_broker_than_the_plan_allows(user_id: UUID) -> None:
    first, second = submitted(user_id), submitted(user_id)
    assert row(first).rung_at is not None
    assert row(second).rung_at is None
    lifecycle.complete(claimed(first), [picture()], 0.5)
    assert row(second).rung_at is not None


def test_the_queue_of_a_user_is_bounded(user_id: UUID) -> None:
    for _ in range(3):
        submitted(user_id)
    before = spendable(user_id)
    with pytest.raises(QueueFull) as caught:
        submitted(user_id)
    assert int(caught.value.headers["Retry-After"]) >= 1
    assert spendable(user_id) == before


def test_parallel_submits_stay_within_the_queue(user_id: UUID) -> None:
    def attempt(_: int) -> bool:
        try:
            submitted(user_id)
        except QueueFull:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(20))) == 3


def test_lost_messages_are_rung_again(user_id: UUID) -> None:
    job_id = submitted(user_id)
    depths = dispatch.depths()
    assert depths["free"] == 1
    assert sweep.ring_again() == 0  # nothing is missing
    purge()
    assert sweep.ring_again() == 0  # too early
    with db.transaction() as session:
        session.execute(
            text("UPDATE jobs SET rung_at = rung_at - interval '1 hour' WHERE id = :id"), {"id": job_id}
        )
    assert sweep.ring_again() == 1
    assert dispatch.depths()["free"] == 1


def test_a_submit_survives_a_broker_that_is_away_and_is_rung_when_it_is_back(
    user_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = Celery("nowhere", set_as_current=False)
    nowhere.conf.update(celery().conf, broker_url="redis://127.0.0.1:1/0")
    no_server = broker._redis("redis://127.0.0.1:1/0")
    with monkeypatch.context() as away:
        away.setattr(broker, "celery", lambda: nowhere)
        away.setattr(broker, "_redis", lambda _: no_server)
        job_id = submitted(user_id)
        assert row(job_id).status == "pending"
        assert sweep.ring_again() == 0
    dispatch.flush()
    assert dispatch.depths()["free"] == 1


def test_ringing_goes_on_after_the_database_was_away(user_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("the server closed the connection"))

    with monkeypatch.context() as outage:
        outage.setattr(ringer, "ring", away)
        submitted(user_id)
    dispatch.flush()
    assert dispatch.depths()["free"] == 1


def test_a_bell_that_cannot_be_rung_holds_up_no_other(user_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise LookupError("a mistake of ours")

    with monkeypatch.context() as wrong:
        wrong.setattr(ringer, "ring", broken)
        submitted(user_id)
    submitted(register("another@example.com", "correct horse battery").id)
    assert dispatch.depths()["free"] == 1


def purge() -> None:
    with celery().connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel.queue_purge("free")


@pytest.fixture(autouse=True)
def _empty_queues() -> None:
    purge()
