"""The task and the engine in one process: jobs of several customers share steps and are paid apart."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import pytest

from gpu_worker.config import EngineConfig
from pingvas import db
from pingvas.accounts.register import register
from pingvas.billing import reconcile
from pingvas.jobs import submit
from pingvas.jobs.dead_letters.models import DeadLetter
from pingvas.jobs.models import Job
from pingvas.jobs.submit import Order
from tasks import worker
from tasks.generation import generate_image

pytestmark = pytest.mark.usefixtures("clean_db")

CUSTOMERS = 4


@pytest.fixture(autouse=True)
def _one_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # On a busy machine a step of two requests may take longer than the budget; then they take turns.
    config = EngineConfig.from_env(os.environ)
    patient = replace(config, scheduling=replace(config.scheduling, step_budget_seconds=60.0))
    monkeypatch.setattr(EngineConfig, "from_env", lambda _: patient)
    yield
    worker.stop_engine()


def submitted(number: int) -> UUID:
    user = register(f"customer-{number}@example.com", "correct horse battery")
    order = Order(prompt="a red circle on a blue background", seed=number, steps=30 - 2 * number)
    return submit.submit(user.id, user.tier, order).job_id


def test_jobs_of_one_worker_share_steps_and_are_charged_their_share() -> None:
    job_ids = [submitted(number) for number in range(CUSTOMERS)]
    began = time.perf_counter()
    with ThreadPoolExecutor(CUSTOMERS) as pool:
        outcomes = list(pool.map(lambda job_id: generate_image(str(job_id)), job_ids))
    elapsed = time.perf_counter() - began
    assert outcomes == ["done"] * CUSTOMERS
    stats = worker.engine().stats()
    assert stats.requests_per_step > 1.5
    with db.transaction() as session:
        jobs = [session.get_one(Job, job_id) for job_id in job_ids]
        assert reconcile.problems(session) == {}
    assert {job.status for job in jobs} == {"completed"}
    # One thread owns the device: what all are charged for cannot be more than there was.
    assert sum(job.gpu_seconds or 0 for job in jobs) <= elapsed


def test_a_message_for_a_job_that_is_not_there_does_nothing() -> None:
    job_id = submitted(0)
    assert generate_image(str(job_id)) == "done"
    assert generate_image(str(job_id)) == "not pending"


def test_a_model_that_left_the_catalogue_fails_the_job_at_once() -> None:
    job_id = submitted(0)
    with db.transaction() as session:
        session.get_one(Job, job_id).model = "gone"
    generate_image(str(job_id))
    with db.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.status, job.error_code, job.attempt) == ("failed", "MODEL_REMOVED", 1)
        assert session.get(DeadLetter, job_id) is None
        assert reconcile.problems(session) == {}
