"""What operators alert on, as a scrape reads it."""

import urllib.error
import urllib.request
from types import SimpleNamespace
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import text

from pingvas import beats, db
from pingvas.jobs import lifecycle
from pingvas.metrics import Collector
from pingvas.settings import Settings
from tasks import control, metrics
from tests.conftest import free_port
from tests.jobs.customers import customer
from tests.jobs.dead_letters.conftest import failed
from tests.jobs.test_lifecycle import FINAL, claimed, submitted

pytestmark = pytest.mark.usefixtures("clean_db")


@pytest.fixture
def user_id() -> UUID:
    return customer("studio")


def value(name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(Collector())
    return registry.get_sample_value(f"pingvas_{name}", labels)


def test_queues_and_letters(user_id: UUID) -> None:
    assert value("oldest_waiting_seconds", tier="studio") == 0
    claimed(submitted(user_id, "studio"))
    submitted(user_id, "studio")
    failed(customer("free"), FINAL)
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET created_at = created_at - interval '1 hour'"))
    assert value("jobs_waiting", tier="studio") == value("jobs_running", tier="studio") == 1
    assert value("jobs_waiting", tier="free") == 0
    assert 3_600 <= (value("oldest_waiting_seconds", tier="studio") or 0) < 3_660
    assert value("dead_letters_open", **{"class": "ours"}) == 1
    assert value("dead_letters_open", **{"class": "poison"}) == 0


def test_overdue_leases(user_id: UUID) -> None:
    held = claimed(submitted(user_id, "studio"))
    assert value("leases_expired") == 0
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET lease_expires_at = lease_expires_at - interval '1 hour'"))
    assert value("leases_expired") == 1
    lifecycle.lost(held)
    assert value("leases_expired") == 0


def test_beat() -> None:
    def fail() -> None:
        raise RuntimeError("no room")

    beats.once("tasks.control.sweep", 0.0, lambda: {"seen": 1})
    with pytest.raises(RuntimeError):
        beats.once("tasks.control.sweep", 0.0, fail)
    assert value("beat_runs_total", task="sweep") == 2
    assert value("beat_errors_total", task="sweep") == 1
    assert value("beat_failed", task="sweep") == 1
    beats.once("tasks.control.sweep", 0.0, lambda: {"seen": 2})
    assert value("beat_failed", task="sweep") == 0
    assert 0 <= (value("beat_lag_seconds", task="sweep") or 0) < 60
    assert 0 < (value("beat_duration_seconds", task="sweep") or 0) < 60


def test_books(user_id: UUID) -> None:
    assert value("books_wrong") == 0  # not proved yet
    control.reconcile.apply()
    assert value("books_wrong") == 0
    with db.transaction() as session:
        session.execute(text("UPDATE wallets SET purchased = 7"))
        session.execute(text("TRUNCATE beat_runs"))
    control.reconcile.apply()
    assert value("books_wrong") == 1


@pytest.mark.parametrize(("queue", "served"), [("control", True), ("free", False)])
def test_the_control_worker_serves_them(monkeypatch: pytest.MonkeyPatch, queue: str, served: bool) -> None:
    config = Settings(metrics_port=free_port())
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    queues = SimpleNamespace(consume_from=[queue])
    worker = SimpleNamespace(app=SimpleNamespace(amqp=SimpleNamespace(queues=queues)))
    metrics._serve(worker)
    address = f"http://127.0.0.1:{config.metrics_port}/metrics"
    if not served:
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(address)
        return
    metrics._serve(worker)  # a second control worker of this host goes without
    with urllib.request.urlopen(address) as answer:
        names = {family.name for family in text_string_to_metric_families(answer.read().decode())}
    assert {"pingvas_jobs_waiting", "pingvas_dead_letters_open", "pingvas_books_wrong"} <= names


def test_with_tokens_nobody_reads_them_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "4f8b2d6c0e9a1735" * 2
    config = Settings(metrics_port=free_port(), internal_token=SecretStr(token))
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    queues = SimpleNamespace(consume_from=["control"])
    metrics._serve(SimpleNamespace(app=SimpleNamespace(amqp=SimpleNamespace(queues=queues))))
    request = urllib.request.Request(f"http://127.0.0.1:{config.metrics_port}/metrics")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request)
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request) as answer:
        assert b"pingvas_jobs_waiting" in answer.read()
