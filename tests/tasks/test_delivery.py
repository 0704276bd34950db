"""Finished pictures while the store or the database is away: they are kept, delivered later, charged once."""

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from pingvas import db, settings, storage
from pingvas.billing import reconcile
from pingvas.errors import Unavailable
from pingvas.gallery import pictures
from pingvas.gallery.models import Image
from pingvas.jobs import lifecycle
from pingvas.jobs.dead_letters.models import JobAttempt
from pingvas.jobs.lifecycle import Claim, Outcome
from tasks import delivery, keeping, worker
from tasks.generation import generate_image
from tasks.heartbeat import Heartbeat, Pulse
from tests.conftest import free_port
from tests.jobs.test_lifecycle import make_due
from tests.tasks.conftest import DRAWN, ordered, row

pytestmark = pytest.mark.usefixtures("clean_db")


class Store:
    """An S3 server that comes and goes."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server: ThreadedMotoServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="id",
            aws_secret_access_key="secret",
        ).create_bucket(Bucket="pictures")

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """The object store of the test, which is away at first; the worker's disk is the test's too."""
    store = Store()
    use(
        monkeypatch,
        data_dir=tmp_path,
        s3_bucket="pictures",
        s3_endpoint_url=store.url,
        s3_access_key_id="id",
        s3_secret_access_key=SecretStr("secret"),
    )
    yield store
    store.stop()


def use(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    config = settings.get().model_copy(update=values)
    monkeypatch.setattr("pingvas.settings.get", lambda: config)


@pytest.fixture(autouse=True)
def _nothing_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine() -> Any:
        raise AssertionError("the pictures were there")

    monkeypatch.setattr(worker, "engine", engine)


@pytest.fixture(autouse=True)
def _books_balance_in_the_end() -> Iterator[None]:
    yield
    with db.transaction() as session:
        assert reconcile.problems(session) == {}


def claimed(job_id: UUID) -> Claim:
    held = lifecycle.claim(job_id, "worker-1")
    assert held is not None
    return held


def kept_file(job_id: UUID) -> Path:
    return settings.get().data_dir / "kept" / f"{job_id}.zip"


@contextmanager
def delivering(held: Claim) -> Iterator[tuple["Future[Outcome]", Heartbeat]]:
    """Deliver in a thread; the block begins once the store was found to be away."""
    heartbeat = Heartbeat()

    def run() -> Outcome:
        with heartbeat.keep(held, lambda: None) as pulse:
            return delivery.deliver(held, pulse, DRAWN)

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(run)
        while not kept_file(held.job_id).exists():
            assert not ended.done(), ended.result()
        yield ended, heartbeat


def test_pictures_wait_for_the_store_and_are_delivered(store: Store) -> None:
    held = claimed(ordered())
    deadline = row(held.job_id).deadline_at
    with delivering(held) as (ended, _):
        store.start()
        assert ended.result(60) is Outcome.DONE
    job = row(held.job_id)
    assert (job.status, job.attempt, job.credits_consumed) == ("completed", 1, 3)
    assert job.deadline_at != deadline  # the GPU was quick; who waits now is not overdue
    with db.transaction() as session:
        (image,) = session.query(Image).all()
    assert storage.default().get(pictures.original_key(held.user_id, image.id)) == b"a PNG"
    assert not kept_file(held.job_id).exists()


def test_after_a_long_outage_the_attempt_fails_and_the_next_one_draws_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, store_patience_seconds=0)
    job_id = ordered()
    keeping.keep(job_id, DRAWN)
    assert generate_image(str(job_id)) == "retry"
    with db.transaction() as session:
        (attempt,) = session.query(JobAttempt).all()
    assert attempt.code == "STORE_UNAVAILABLE"
    assert kept_file(job_id).exists()
    store.start()
    make_due(job_id)
    assert generate_image(str(job_id)) == "done"
    job = row(job_id)
    assert (job.status, job.attempt, job.gpu_seconds, job.credits_consumed) == ("completed", 2, 2.5, 3)
    assert not kept_file(job_id).exists()


def test_who_cancels_meanwhile_pays_what_was_used(store: Store) -> None:
    held = claimed(ordered())
    with delivering(held) as (ended, heartbeat):
        assert lifecycle.cancel(held.user_id, held.job_id) is Outcome.ASKED
        heartbeat.look(held.job_id)
        with pytest.raises(delivery.Interrupted) as interrupted:
            ended.result(60)
    assert interrupted.value.gpu_seconds == 2.5


def test_a_worker_that_leaves_keeps_the_pictures_for_the_next(store: Store) -> None:
    held = claimed(ordered())
    with delivering(held) as (ended, heartbeat):
        heartbeat.interrupt()
        with pytest.raises(delivery.Interrupted):
            ended.result(60)
    assert lifecycle.hand_back(held) is Outcome.RETRY
    store.start()
    assert generate_image(str(held.job_id)) == "done"
    assert row(held.job_id).credits_consumed == 3


def test_a_commit_whose_answer_was_lost_is_not_undone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.start()
    held, complete, lost = claimed(ordered()), lifecycle.complete, threading.Event()

    def answer_is_lost(*args: Any) -> Outcome:
        outcome = complete(*args)
        if not lost.is_set():
            lost.set()
            raise OperationalError("COMMIT", {}, Exception("the connection is gone"))
        return outcome

    monkeypatch.setattr(lifecycle, "complete", answer_is_lost)
    assert delivery.deliver(held, Pulse(held, lambda: None), DRAWN) is Outcome.STALE
    with db.transaction() as session:
        (image,) = session.query(Image).all()
    assert storage.default().exists(pictures.original_key(held.user_id, image.id))
    assert row(held.job_id).credits_consumed == 3


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Every file that is to be durable finds the disk full, as the last bytes of a real one do."""
    use(monkeypatch, data_dir=tmp_path, store_patience_seconds=0)

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        yield


def test_a_full_disk_fails_the_attempt_and_not_the_worker(
    full_disk: None, caplog: pytest.LogCaptureFixture
) -> None:
    held = claimed(ordered())
    with (
        Heartbeat().keep(held, lambda: None) as pulse,
        pytest.raises(Unavailable, match="full"),
    ):
        delivery.deliver(held, pulse, DRAWN)
    assert "cannot be kept on the disk: No space left on device" in caplog.text
    assert list((settings.get().data_dir / "kept").iterdir()) == []


def test_the_bound_of_what_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, data_dir=tmp_path, kept_bytes=20)
    first, second = ordered(1), ordered(2)
    assert keeping.keep(first, DRAWN)
    assert not keeping.keep(second, DRAWN)
    assert keeping.find(first) == DRAWN
    assert keeping.find(second) is None


def test_what_is_torn_is_drawn_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, data_dir=tmp_path)
    job_id = ordered()
    keeping.keep(job_id, DRAWN)
    whole = kept_file(job_id).read_bytes()
    for damaged in (whole[:-40], whole.replace(b"a PNG", b"a PNX")):
        kept_file(job_id).write_bytes(damaged)
        assert keeping.find(job_id) is None


def test_what_nobody_asked_for_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, data_dir=tmp_path)
    keeping.forget_old()
    old, young = ordered(1), ordered(2)
    for job_id in (old, young):
        keeping.keep(job_id, DRAWN)
    os.utime(kept_file(old), (0, 0))
    keeping.forget_old()
    assert [keeping.find(old), keeping.find(young)] == [None, DRAWN]
