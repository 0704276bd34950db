"""Probes of processes without an API: dead only when a restart would help."""

from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from gpu_worker.config import EngineConfig
from gpu_worker.desk import Desk
from gpu_worker.request import GenerationRequest, ModelSource
from gpu_worker.tickets import Ticket
from pingvas import settings
from tasks import health, schedule
from tasks.health import Probes
from tasks.heartbeat import Heartbeat
from tests.conftest import free_port

REQUEST = GenerationRequest(
    "r", ModelSource("tiny", "builtin:tiny", "tiny"), "", "", 64, 64, 2, 1.0, 1, "ddim", 1
)


class Stats:
    """An engine of which only one figure is asked."""

    silent_seconds = 0.0

    def stats(self) -> "Stats":
        return self


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, database: str, broker: str) -> Iterator[Any]:
    servers: list[ThreadingHTTPServer] = []

    def ask(probes: Probes, path: str, **values: Any) -> httpx.Response:
        port = free_port()
        config = settings.Settings(health_port=port, **values)
        monkeypatch.setattr("pingvas.settings.get", lambda: config)
        server = health.serve(probes)
        assert server is not None
        servers.append(server)
        return httpx.get(f"http://127.0.0.1:{port}{path}")

    yield ask
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_gpu_that_makes_no_step_is_dead(ask: Any) -> None:
    engine: Any = Stats()
    probes = health.of_gpu_worker(Heartbeat(), lambda: engine, lambda: False)
    assert ask(probes, "/healthz").json() == {"status": "ok", "checks": {"leases": "ok", "gpu": "ok"}}
    engine.silent_seconds = settings.get().stuck_seconds + 1
    answer = ask(probes, "/healthz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["gpu"] == "no step for 301 s"
    assert answer.json()["checks"]["leases"] == "ok"


def test_a_worker_that_starts_lives_and_is_not_ready(ask: Any) -> None:
    probes = health.of_gpu_worker(Heartbeat(), lambda: None, lambda: False)
    assert ask(probes, "/healthz").status_code == 200
    answer = ask(probes, "/readyz")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert checks["engine"] == "it has not started yet"
    assert checks["database"] == checks["broker"] == checks["store"] == "ok"
    assert ask(probes, "/elsewhere").status_code == 404


def test_an_outage_around_it_does_not_make_it_dead(ask: Any) -> None:
    away = {"s3_bucket": "pictures", "s3_endpoint_url": "http://127.0.0.1:1"}
    probes = health.of_worker()
    assert ask(probes, "/healthz", **away).status_code == 200
    answer = ask(probes, "/readyz", **away)
    assert answer.status_code == 503
    assert answer.json()["checks"]["store"] != "ok"


def test_beat_lives_while_it_ticks(ask: Any) -> None:
    seconds = 0.0
    probes = health.of_beat(lambda: seconds, schedule.LIMIT_SECONDS)
    assert ask(probes, "/healthz").json()["checks"] == {"ticks": "ok"}
    seconds = 61.0
    assert ask(probes, "/healthz").json()["checks"] == {"ticks": "none for 61 s"}


def test_no_port_no_server() -> None:
    assert settings.get().health_port == 0
    assert health.serve(health.of_worker()) is None


def test_a_port_that_is_taken_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), object) as taken:  # type: ignore[arg-type]
        config = settings.Settings(health_port=taken.server_address[1])
        monkeypatch.setattr("pingvas.settings.get", lambda: config)
        with pytest.raises(SystemExit, match="PINGVAS_HEALTH_PORT"):
            health.serve(health.of_worker())


def test_silence_is_counted_only_while_there_is_something_to_run() -> None:
    now = [0.0]
    desk = Desk(EngineConfig().scheduling, lambda: now[0])
    now[0] = 1_000
    assert desk.counts().silent_seconds == 0
    desk.add(Ticket(REQUEST))
    assert desk.counts().silent_seconds == 0
    now[0] += 50
    assert desk.counts().silent_seconds == 50
    desk.admit()
    assert desk.counts().silent_seconds == 0
