"""Whether a worker or beat makes progress: `/healthz` and `/readyz` of a process that has no API.

Live means that a restart would not help; an outage of a server around it never makes a process dead. Ready
means that it does its work now. `GET` of either answers 200 or 503 with `{"status", "checks"}`.
"""

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from celery.signals import heartbeat_sent

from pingvas import db, settings, storage
from pingvas.jobs.dispatch import probe
from pingvas.web.health import TIMEOUT_SECONDS, Check, Checks, Unwell
from tasks.heartbeat import Heartbeat

if TYPE_CHECKING:
    from gpu_worker.engine import Engine

LISTENING_SECONDS: Final = 30.0  # Celery's loop is heard of every two seconds while it reaches the broker
"""How long a worker that hears of no message is believed to be listening."""

_heard_at: float | None = None


@dataclass(frozen=True)
class Probes:
    """What tells that a process lives, and what that it is ready beside the servers that all need."""

    live: Mapping[str, Check]
    ready: Mapping[str, Check]


@heartbeat_sent.connect
def _heard(**_: object) -> None:
    global _heard_at
    _heard_at = time.monotonic()


def of_worker() -> Probes:
    """Return the probes of a worker without GPU."""
    return Probes({}, {"listening": _within("no word from the broker", _unheard_seconds, LISTENING_SECONDS)})


def of_gpu_worker(
    heartbeat: Heartbeat, engine: "Callable[[], Engine | None]", leaving: Callable[[], bool]
) -> Probes:
    """Return the probes of a GPU worker."""

    def no_step_seconds() -> float:
        running = engine()
        return 0.0 if running is None else running.stats().silent_seconds

    def started() -> None:
        if engine() is None:
            raise Unwell("it has not started yet")

    def staying() -> None:
        if leaving():
            raise Unwell("this worker takes no more jobs")

    config = settings.get()
    live = {
        "leases": _within("none renewed", heartbeat.silent_seconds, 2 * config.lease_seconds),
        "gpu": _within("no step", no_step_seconds, config.stuck_seconds),
    }
    return Probes(live, {**of_worker().ready, "engine": started, "staying": staying})


def of_beat(tick_seconds: Callable[[], float], limit: float) -> Probes:
    """Return the probes of beat, which lives while it looks at its schedule."""
    return Probes({"ticks": _within("none", tick_seconds, limit)}, {})


def _within(what: str, silent_seconds: Callable[[], float], limit: float) -> Check:
    def check() -> None:
        seconds = silent_seconds()
        if seconds > limit:
            raise Unwell(f"{what} for {seconds:.0f} s")

    return check


def _unheard_seconds() -> float:
    return math.inf if _heard_at is None else time.monotonic() - _heard_at


def _database() -> None:
    db.query("SELECT 1", {})


def _broker() -> None:
    probe.version(TIMEOUT_SECONDS)


def _store() -> None:
    storage.default().check()


def serve(probes: Probes) -> ThreadingHTTPServer | None:
    """Answer on `PINGVAS_HEALTH_PORT`, from a thread; None where none is set.

    Raises:
        SystemExit: the port cannot be had.
    """
    config = settings.get()
    if not config.health_port:
        return None
    needs = {"database": _database, "broker": _broker, "store": _store}
    answers = {"/healthz": Checks(probes.live), "/readyz": Checks({**needs, **probes.live, **probes.ready})}
    try:
        server = _Server((config.health_host, config.health_port), _handler(answers))
    except OSError as error:
        raise SystemExit(f"PINGVAS_HEALTH_PORT {config.health_port}: {error.strerror}") from None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def _handler(answers: Mapping[str, Checks]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            checks = answers.get(self.path)
            if checks is None:
                self.send_error(404)
                return
            found = checks.ask()
            well = all(outcome == "ok" for outcome in found.values())
            body = json.dumps({"status": "ok" if well else "unwell", "checks": found}).encode()
            self.send_response(200 if well else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
            """Say nothing: whoever probes does so all the time."""

    return Handler
