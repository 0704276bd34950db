"""A message that would run code when it is read is refused by a real worker, which goes on working."""

import os
import subprocess
import sys
import time
from pathlib import Path

import redis
from kombu import Connection, Exchange, Producer

from pingvas import db
from pingvas.cli.programs import worker
from tasks import app


class Weapon:
    """Makes a file when somebody unpickles it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self.path,))


def test_a_pickled_message_is_refused_and_harms_nothing(broker: str, clean_db: None, tmp_path: Path) -> None:
    url = f"{broker.rpartition('/')[0]}/8"
    redis.Redis.from_url(url).flushdb()
    target = tmp_path / "pwned"
    headers = {"task": "tasks.control.reconcile", "id": "1", "lang": "py"}
    options = app.conf.broker_transport_options
    with Connection(url, transport_options=options) as connection:
        producer = Producer(connection, Exchange("pingvas", type="direct"))
        producer.publish(
            ((Weapon(str(target)),), {}, {}),
            routing_key="control",
            serializer="pickle",
            headers=headers,
            declare=list(app.conf.task_queues),  # kombu adds the exchange to what it is given
        )
        # After it an honest one: when that is done, the worker has read the first and lives.
        producer.publish(
            ((), {}, {}),
            routing_key="control",
            serializer="json",
            headers={**headers, "id": "2"},
        )
    log = (tmp_path / "worker.log").open("w+")
    child = subprocess.Popen(
        worker("pickle", ["control"], 1), env={**os.environ, "BROKER_URL": url}, stderr=log, stdout=log
    )
    try:
        assert reconciled(child), (tmp_path / "worker.log").read_text()[-4_000:]
    finally:
        child.terminate()
        child.wait(30)
    assert not target.exists()
    assert "ContentDisallowed" in (tmp_path / "worker.log").read_text()


def reconciled(child: "subprocess.Popen[bytes]", seconds: float = 60) -> bool:
    """Wait until the books were proved."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and child.poll() is None:
        if db.query(
            "SELECT 1 FROM beat_runs WHERE task = %(task)s AND finished_at IS NOT NULL",
            {"task": "tasks.control.reconcile"},
        ):
            return True
        time.sleep(0.1)
    return False


def test_nothing_but_json_is_accepted() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert sys.modules["celeryconfig"].accept_content == ["json"]
