"""Publishing and reading, on a real Redis."""

import time
from threading import Thread
from uuid import UUID

import pytest
import redis

from pingvas import events, ids, settings
from pingvas.events import model

JOB = UUID("019a0000-0000-7000-8000-000000000001")


@pytest.mark.usefixtures("events_url")
class TestStream:
    def test_in_order_and_after_a_position(self) -> None:
        first = events.publish(JOB, "status", {"status": "in_progress", "attempt": 1})
        second = events.publish(JOB, "progress", {"step": 1, "total_steps": 2, "percent": 50})
        assert first is not None
        assert second is not None
        assert [event.id for event in events.read(JOB)] == [first, second]
        assert events.read(JOB, after=first) == [
            events.Event(second, "progress", {"step": 1, "total_steps": 2, "percent": 50})
        ]
        assert events.read(JOB, after=second) == []
        assert events.read(ids.new()) == []

    def test_many_publishers_one_order(self) -> None:
        def work(name: int) -> None:
            for step in range(50):
                events.publish(JOB, "progress", {"name": name, "step": step})

        threads = [Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = [event.data for event in events.read(JOB)]
        for name in range(4):
            assert [data["step"] for data in seen if data["name"] == name] == list(range(50))

    def test_latest_progress(self) -> None:
        assert events.latest_progress(JOB) is None
        events.publish(JOB, "progress", {"step": 1})
        events.publish(JOB, "progress", {"step": 2})
        assert events.latest_progress(JOB) == {"step": 2}
        events.publish(JOB, "status", {"status": "in_progress"})  # the next attempt has made no step yet
        assert events.latest_progress(JOB) is None

    def test_the_stream_is_capped_and_expires(self, events_url: str) -> None:
        for step in range(1_300):
            events.publish(JOB, "progress", {"step": step})
        client = redis.Redis.from_url(events_url)
        assert 1_000 <= client.xlen(events.stream_key(JOB)) <= 1_200
        assert 86_000 < client.ttl(events.stream_key(JOB)) <= 86_400

    def test_the_doorbell_names_the_job(self, events_url: str) -> None:
        listener = redis.Redis.from_url(events_url, decode_responses=True).pubsub()
        listener.subscribe(events.CHANNEL)
        assert listener.get_message(timeout=5)
        events.publish(JOB, "status", {"status": "pending"})
        message = listener.get_message(timeout=5)
        assert message is not None
        assert message["data"] == str(JOB)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9/0", ""])
def test_an_outage_is_no_error_and_costs_little(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings.Settings(redis_url=url, broker_url="")
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    start = time.monotonic()
    assert events.publish(JOB, "status", {"status": "pending"}) is None
    assert events.read(JOB) == []
    assert events.latest_progress(JOB) is None
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (None, "0-0"),
        ("", "0-0"),
        ("17", "17-0"),
        ("17-3", "17-3"),
        ("$", "0-0"),
        ("-1", "0-0"),
        ("17-3 ", "0-0"),
        (f"{2**64}-0", "0-0"),
        (f"{2**64 - 1}-0", f"{2**64 - 1}-0"),
    ],
)
def test_position_of_anything_a_client_sends(text: str | None, place: str) -> None:
    assert model.position(text) == place


def test_beyond() -> None:
    assert model.beyond("17-3") == f"17-{2**64 - 1}"
    assert model.is_beyond(model.beyond("0-0"))
    assert model.position(model.beyond("17-3")) == model.beyond("17-3")
    assert not model.is_beyond("17-3")


def test_places_grow_without_redis() -> None:
    assert model.following("0-0") == "0-1"
    assert model.following(model.beyond("17-3")) == "18-0"
    assert model.is_later("17-10", than="17-9")
    assert not model.is_later("17-3", than="17-3")
    assert not model.is_of_another_stream(model.beyond("17-3"), newest="17-3")
    assert model.is_of_another_stream("18-0", newest="17-3")


@pytest.mark.parametrize(
    ("status", "kind", "last"),
    [
        ("pending", "status", False),
        ("in_progress", "status", False),
        ("cancelled", "status", True),
        ("completed", "completed", True),
        ("failed", "failed", True),
    ],
)
def test_a_row_as_an_event(status: str, kind: str, last: bool) -> None:
    job = {"job_id": "j", "status": status, "attempt": 1, "image_url": "/x"}
    found, data = events.of_job(job)
    assert found == kind
    assert data["status"] == status
    assert data["job_id"] == "j"
    assert events.Event("1-0", found, data).last is last
