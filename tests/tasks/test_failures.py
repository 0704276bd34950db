"""How attempts fail in a worker: at once, with the reason written down, and the worker goes on."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from gpu_worker.request import GenerationRequest, GenerationResult, Progress
from pingvas import db
from pingvas.jobs import deadlines, lifecycle, sweep
from pingvas.jobs.dead_letters.models import JobAttempt
from pingvas.jobs.models import Job
from pingvas.storage import ObjectKeyError
from tasks import generation, worker
from tasks.generation import generate_image
from tasks.heartbeat import heartbeat
from tasks.progress import Reporter
from tests.jobs.dead_letters.conftest import lose_worker
from tests.jobs.test_lifecycle import make_due
from tests.tasks.conftest import DRAWN, ordered, row

pytestmark = pytest.mark.usefixtures("clean_db")


def attempts(job_id: UUID) -> list[JobAttempt]:
    with db.transaction() as session:
        return session.query(JobAttempt).where(JobAttempt.job_id == job_id).order_by(JobAttempt.number).all()


class Engine:
    """An engine that leaves it to the test when requests end."""

    def __init__(self) -> None:
        self.requests: list[GenerationRequest] = []
        self.future: Future[GenerationResult] = Future()
        self.asked = threading.Event()

    def submit(self, request: GenerationRequest, _: Any) -> "Future[GenerationResult]":
        self.requests.append(request)
        self.asked.set()
        return self.future

    def cancel(self, _: str) -> bool:
        return True


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(worker, "_engine", engine)
    return engine


def test_an_error_of_ours_fails_the_attempt_at_once_with_its_traceback(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(generation, "_request", broken)
    job_id = ordered()
    with pytest.raises(RuntimeError, match="a bug of ours"):  # which Celery logs
        generate_image(str(job_id))
    assert (row(job_id).status, row(job_id).failures) == ("pending", 1)
    (attempt,) = attempts(job_id)
    assert attempt.code == "INTERNAL_ERROR"
    assert "RuntimeError: a bug of ours" in attempt.traceback
    assert "in broken" in attempt.traceback
    for _ in range(2):
        make_due(job_id)
        with pytest.raises(RuntimeError):
            generate_image(str(job_id))
    job = row(job_id)
    assert (job.status, job.error_code, job.error_detail) == (
        "failed",
        "INTERNAL_ERROR",
        "Something unexpected happened.",
    )


def test_a_store_that_cannot_take_a_picture_fails_the_attempt(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ObjectKeyError("'images' lies below an object")

    monkeypatch.setattr("pingvas.storage.local.LocalStore.put", refuse)
    engine.future.set_result(DRAWN)
    job_id = ordered()
    assert generate_image(str(job_id)) == "retry"
    (attempt,) = attempts(job_id)
    assert (attempt.code, row(job_id).status) == ("STORE_UNAVAILABLE", "pending")
    assert "lies below an object" in attempt.traceback


def test_a_device_that_hangs_loses_its_job_and_its_worker(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(worker, "give_up", lambda why: ended.set())
    monkeypatch.setattr(deadlines, "_QUOTES", 0)
    monkeypatch.setattr(deadlines, "_of_plan", lambda _: 0.1)
    monkeypatch.setattr(generation, "HUNG_AFTER_SECONDS", 0.1)
    job_id = ordered()
    assert generate_image(str(job_id)) == "retry"
    assert ended.is_set()
    (attempt,) = attempts(job_id)
    assert attempt.code == "DEADLINE_EXCEEDED"
    assert "no step any more" in attempt.traceback


def test_a_worker_that_lives_drops_a_job_that_was_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real engine, held up in the middle of a step."""
    in_a_step, go_on, steps = threading.Event(), threading.Event(), []

    def tell(_: Reporter, __: UUID, progress: Progress) -> None:
        steps.append(progress.step)
        in_a_step.set()
        assert go_on.wait(60)

    monkeypatch.setattr(Reporter, "tell", tell)
    job_id = ordered(steps=30)
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(generate_image, str(job_id))
        try:
            assert in_a_step.wait(120)
            with db.transaction() as session:
                session.execute(text("UPDATE jobs SET deadline_at = clock_timestamp()"))
            assert sweep.take_back_overdue() == 1
            heartbeat.look(job_id)  # as its thread does every two seconds
        finally:
            go_on.set()
        assert outcome.result(60) == "stale"
    worker.stop_engine()
    assert steps == [1]
    assert (row(job_id).status, row(job_id).failures) == ("pending", 1)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_a_job_that_was_lost_with_a_worker_runs_alone(engine: Engine, pool: ThreadPoolExecutor) -> None:
    suspect, other = ordered(1), ordered(2)
    lose_worker(suspect, "worker-1")
    make_due(suspect)
    first = pool.submit(generate_image, str(suspect))
    assert engine.asked.wait(20)
    assert row(suspect).alone
    second = pool.submit(generate_image, str(other))
    engine.future.set_result(DRAWN)
    assert first.result(20) == second.result(20) == "done"
    assert [request.id for request in engine.requests] == [f"{suspect}:2", f"{other}:1"]


def test_jobs_beside_it_are_not_lost_with_it(engine: Engine, pool: ThreadPoolExecutor) -> None:
    """What would run beside a suspect is not claimed: it could be lost with it."""
    suspect, other = ordered(1), ordered(2)
    lose_worker(suspect, "worker-1")
    make_due(suspect)
    first = pool.submit(generate_image, str(suspect))
    assert engine.asked.wait(20)
    second = pool.submit(generate_image, str(other))
    make_lost(suspect)
    assert row(suspect).error_code == "POISON_JOB"
    assert (row(other).status, row(other).attempt) == ("pending", 0)
    engine.future.set_result(DRAWN)
    assert [first.result(20), second.result(20)] == ["stale", "done"]


def make_lost(job_id: UUID) -> None:
    held_until = text("UPDATE jobs SET lease_expires_at = clock_timestamp() WHERE id = :id")
    while True:  # the heartbeat of this process renews it
        with db.transaction() as session:
            session.execute(held_until, {"id": job_id})
            job = session.get_one(Job, job_id)
            if lifecycle.lost(lifecycle.held_by(job)) is not lifecycle.Outcome.STALE:
                return
