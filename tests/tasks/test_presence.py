"""What a GPU worker says of itself, and that it hears at once who wants to cancel."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from pingvas import db, settings, workers
from pingvas.accounts.register import register
from pingvas.jobs import lifecycle, submit
from pingvas.jobs.lifecycle import Outcome
from pingvas.jobs.submit import Order
from pingvas.workers import Worker
from tasks.heartbeat import Heartbeat
from tasks.presence import Presence, describe

pytestmark = pytest.mark.usefixtures("clean_db")

GPU = describe("gpu@somewhere:1", ["enterprise", "free"], 4)


@pytest.fixture
def heartbeat(monkeypatch: pytest.MonkeyPatch) -> Heartbeat:
    """A heartbeat that beats once in the length of a test."""
    config = settings.Settings(heartbeat_seconds=1_000, lease_seconds=3_600)
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    return Heartbeat()


@pytest.fixture
def presence(heartbeat: Heartbeat) -> Iterator[Presence]:
    there = Presence(lambda: replace(GPU, running=heartbeat.running()), heartbeat)
    there.start()
    yield there
    there.stop()
    workers.forget()


def seen() -> list[Worker]:
    workers.forget()
    return [worker for worker in workers.live() if worker.name == GPU.name]


def test_a_worker_for_everything_and_one_for_a_family() -> None:
    assert GPU.tiers == {"enterprise", "free"}
    assert (GPU.slots, GPU.queues) == (4, ("enterprise", "free"))
    assert {"tiny", "flux"} <= GPU.families
    assert GPU.pid > 0
    assert describe("gpu@somewhere:2", ["free.sdxl", "pro.sdxl"], 1).families == {"sdxl"}


def test_it_is_there_until_it_leaves(presence: Presence) -> None:
    while not seen():
        pass
    assert seen() == [GPU]
    presence.leave()
    assert seen() == []


def test_a_cancel_is_heard_without_waiting_for_the_heartbeat(
    heartbeat: Heartbeat, presence: Presence
) -> None:
    user = register("artist@example.com", "correct horse battery")
    job_id = submit.submit(user.id, "free", Order(prompt="a red circle", seed=1)).job_id
    held = lifecycle.claim(job_id, GPU.name)
    assert held is not None
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET lease_expires_at = NULL"))
    stopped = threading.Event()
    with heartbeat.keep(held, stopped.set):
        with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while connection.scalar(text("SELECT lease_expires_at FROM jobs")) is None:
                pass  # the one beat is over
        while not workers.wake(GPU.name, job_id):
            pass  # it listens
        assert lifecycle.cancel(user.id, job_id) is Outcome.ASKED
        assert stopped.wait(20)
        assert heartbeat.running() == 1
    assert heartbeat.running() == 0
