"""A GPU worker that holds only some families."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from celery.exceptions import Reject

from pingvas import db, settings
from pingvas.accounts.register import register
from pingvas.jobs import submit
from pingvas.jobs.models import Job
from pingvas.jobs.submit import Order
from tasks import worker
from tasks.generation import generate_image
from tasks.presence import describe

pytestmark = pytest.mark.usefixtures("clean_db")


@pytest.fixture(autouse=True)
def _for_sdxl_only(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings.Settings(routing="family")
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    monkeypatch.setattr(worker, "_self", describe("gpu@somewhere:1", ["free.sdxl"], 4))
    started = threading.Event()
    started.set()
    monkeypatch.setattr(worker, "_tried", started)
    monkeypatch.setattr(worker, "_engine", object())


def test_it_hands_a_job_that_it_does_not_hold_to_those_who_do(broker: str) -> None:
    user = register("artist@example.com", "correct horse battery")
    job_id = submit.submit(user.id, "free", Order(prompt="a red circle", seed=1)).job_id
    with redis.Redis.from_url(broker) as client:
        client.delete("free.sd")
        assert generate_image(str(job_id)) == "retry"
        assert client.llen("free.sd") == 1
    with db.transaction() as session:
        job = session.get_one(Job, job_id)
    assert (job.status, job.failures) == ("pending", 0)
    assert job.rung_at is not None


def test_it_claims_nothing_before_its_engine_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()
    monkeypatch.setattr(worker, "_tried", tried)
    monkeypatch.setattr(worker, "_engine", None)
    user = register("artist@example.com", "correct horse battery")
    job_id = submit.submit(user.id, "free", Order(prompt="a red circle", seed=1)).job_id
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(generate_image, str(job_id))
        assert not outcome.done()
        tried.set()  # and it could not start
        assert isinstance(outcome.exception(20), Reject)
    with db.transaction() as session:
        assert session.get_one(Job, job_id).attempt == 0


def test_a_model_that_left_the_catalogue_is_nobody_elses_business() -> None:
    assert worker.name() == "gpu@somewhere:1"
    assert not worker.holds("tiny")
    assert worker.holds("gone")
