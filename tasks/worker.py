"""A GPU worker process around its tasks: the engine it owns, and how it starts and leaves."""

import logging
import os
import signal
import socket
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.signals import worker_init, worker_ready, worker_shutting_down

from gpu_worker.builtin import BUILTIN_TINY
from gpu_worker.config import EngineConfig
from pingvas import settings
from pingvas.catalog import entries
from pingvas.catalog.families import FAMILIES
from pingvas.jobs import routing
from pingvas.workers import Worker
from tasks import sources
from tasks.heartbeat import heartbeat
from tasks.presence import Presence, describe

if TYPE_CHECKING:
    from gpu_worker.engine import Engine

log = logging.getLogger(__name__)

_lock = threading.Lock()
_engine: "Engine | None" = None
_self: Worker | None = None  # None in a process that is no GPU worker, as in a test
_presence: Presence | None = None


def name() -> str:
    """Return what a job's row says of who runs it."""
    return f"{socket.gethostname()}:{os.getpid()}" if _self is None else _self.name


def holds(model: str) -> bool:
    """Tell whether this worker is meant for a model of the catalogue."""
    if _self is None or _self.families == frozenset(FAMILIES):
        return True
    entry = entries.find(model)
    return entry is None or entry.family in _self.families


def engine() -> "Engine":
    """Return this process's engine, started on first use: importing torch takes seconds."""
    global _engine
    with _lock:
        if _engine is None:
            from gpu_worker.engine import Engine

            _engine = Engine(EngineConfig.from_env(os.environ))
        return _engine


@worker_init.connect
def _start(sender: Any, **_: object) -> None:
    """Load the engine while the worker connects, if this worker serves a tier at all."""
    global _self, _presence
    queues = list(sender.app.amqp.queues.consume_from)
    if not any(map(routing.tier_of, queues)):
        return
    try:
        EngineConfig.from_env(os.environ)
    except ValueError as error:
        raise SystemExit(str(error)) from None  # a signal's receivers may not raise anything less
    _self = describe(f"{sender.hostname}:{os.getpid()}", queues, sender.concurrency)
    _presence = Presence(partial(_now, _self), heartbeat)
    threading.Thread(target=_warm_up, name="engine-start", daemon=True).start()


def _now(described: Worker) -> Worker:
    device = _engine.stats().device if _engine is not None else ""
    return replace(described, device=device, running=heartbeat.running())


@worker_ready.connect
def _ready(**_: object) -> None:
    if _presence is not None:
        _presence.start()


def _warm_up() -> None:
    """Start the engine. A worker that cannot must not go on taking jobs, so its process ends."""
    try:
        started = engine()
        if holds(BUILTIN_TINY.slug):
            started.prefetch(BUILTIN_TINY)
        for slug in filter(None, map(str.strip, settings.get().pinned_models.split(","))):
            started.pin(sources.of(slug))
    except BaseException:
        log.exception("the engine does not start")
        os.kill(os.getpid(), signal.SIGTERM)


@worker_shutting_down.connect
def _stop(**_: object) -> None:
    """Let running jobs use the grace time, then hand them back at their next step."""
    threading.Thread(target=_leave, name="leaving").start()


def _leave() -> None:
    if _presence is not None:
        _presence.leave()
    if _engine is not None:
        _engine.stop(settings.get().worker_grace_seconds)


def stop_engine() -> None:
    """Stop this process's engine, if it has one; the next job starts another."""
    global _engine
    with _lock:
        stopping, _engine = _engine, None
    if stopping is not None:
        stopping.stop()


def cancel(request_id: str) -> bool:
    """Ask the engine to stop a request at its next step; False when it does not have it."""
    return engine().cancel(request_id)
