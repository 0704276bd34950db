"""A GPU worker that holds only some families."""

import pytest
import redis

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


def test_a_model_that_left_the_catalogue_is_nobody_elses_business() -> None:
    assert worker.name() == "gpu@somewhere:1"
    assert not worker.holds("tiny")
    assert worker.holds("gone")
