"""Workers in Redis: what one says, the others read; who is silent is forgotten."""

import threading
from collections.abc import Iterator
from queue import Queue
from uuid import UUID

import pytest
import redis

from pingvas import ids, settings, workers
from pingvas.workers import Worker
from pingvas.workers.presence import LIFE_SECONDS

GPU = Worker(
    name="gpu@somewhere:17",
    tiers=frozenset({"free", "pro"}),
    families=frozenset({"tiny", "sdxl"}),
    slots=4,
    host="somewhere",
    pid=17,
    queues=("pro", "free"),
    device="cpu",
    running=2,
)


@pytest.fixture(autouse=True)
def server(broker: str) -> Iterator["redis.Redis[str]"]:
    with redis.Redis.from_url(broker, decode_responses=True) as client:
        client.flushdb()
        workers.forget()
        yield client
        client.flushdb()
        workers.forget()


def test_a_worker_is_seen_as_it_described_itself() -> None:
    assert workers.announce(GPU)
    assert workers.live() == [GPU]


def test_what_was_seen_is_good_for_a_while() -> None:
    assert workers.live() == []
    workers.announce(GPU)
    assert workers.live() == []
    workers.forget()
    assert workers.live() == [GPU]


def test_who_withdraws_is_gone() -> None:
    workers.announce(GPU)
    workers.withdraw(GPU.name)
    assert workers.live() == []


def test_who_falls_silent_is_forgotten(server: "redis.Redis[str]") -> None:
    workers.announce(GPU)
    key = f"pingvas:worker:{GPU.name}"
    assert 0 < server.ttl(key) <= LIFE_SECONDS
    server.delete(key)  # what its expiry does
    assert workers.live() == []
    assert server.smembers("pingvas:workers") == set()


def test_a_newer_worker_may_say_more(server: "redis.Redis[str]") -> None:
    workers.announce(GPU)
    key = f"pingvas:worker:{GPU.name}"
    server.set(key, str(server.get(key)).replace("{", '{"mood": "fine", ', 1))
    assert workers.live() == [GPU]


def test_without_redis_nobody_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings.Settings(redis_url="redis://127.0.0.1:1/0")
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    assert not workers.announce(GPU)
    assert not workers.wake(GPU.name, ids.new())
    workers.withdraw(GPU.name)
    assert workers.live() == []


def test_a_wake_up_reaches_the_worker_it_is_for_and_no_other() -> None:
    heard: Queue[UUID] = Queue()
    stop = threading.Event()
    ear = threading.Thread(target=workers.listen, args=(GPU.name, heard.put, stop))
    ear.start()
    job_id = ids.new()
    while not workers.wake(GPU.name, job_id):  # until it listens
        assert ear.is_alive()
    assert heard.get(timeout=10) == job_id
    assert not workers.wake("gpu@elsewhere:17", ids.new())
    stop.set()
    ear.join()
    assert heard.empty()
