"""A worker process around its tasks: the engine it owns, how it starts, and how it leaves."""

import logging
import os
import signal
import socket
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.signals import worker_init, worker_ready, worker_shutdown, worker_shutting_down

from gpu_worker.builtin import BUILTIN_TINY
from gpu_worker.config import EngineConfig
from pingvas import settings
from pingvas.catalog import entries
from pingvas.catalog.families import FAMILIES
from pingvas.jobs import routing
from pingvas.workers import Worker
from tasks import health, keeping, naming, sources, spot
from tasks.gate import Gate
from tasks.heartbeat import heartbeat
from tasks.leaving import Leaving
from tasks.presence import Presence, describe

if TYPE_CHECKING:
    from gpu_worker.engine import Engine

log = logging.getLogger(__name__)

gate = Gate()

_lock = threading.Lock()
_engine: "Engine | None" = None
_tried = threading.Event()  # set once the engine has started, or could not
_self: Worker | None = None  # None in a process that is no GPU worker, as in a test
_presence: Presence | None = None
_leaving: Leaving | None = None


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


def is_ready() -> bool:
    """Wait until the engine has started; False when it does not.

    A job that were claimed before would lose its lease where the imports keep other threads from running.
    """
    if _self is None:
        return True
    _tried.wait()
    return _engine is not None


@worker_init.connect
def _start(sender: Any, **_: object) -> None:
    """Load the engine while the worker connects, if this worker serves a tier at all."""
    global _self, _presence, _leaving
    naming.take(sender.hostname)
    queues = list(sender.app.amqp.queues.consume_from)
    is_gpu_worker = any(map(routing.tier_of, queues))
    if not is_gpu_worker:
        health.serve(health.of_worker())
        return
    try:
        EngineConfig.from_env(os.environ)
    except ValueError as error:
        raise SystemExit(str(error)) from None  # a signal's receivers may not raise anything less
    _self = describe(f"{sender.hostname}:{os.getpid()}", queues, sender.concurrency)
    _presence = Presence(partial(_now, _self), heartbeat, _drain)
    _leaving = Leaving(gate, heartbeat, _presence, _engine_if_any)
    threading.Thread(target=_warm_up, name="engine-start", daemon=True).start()
    health.serve(health.of_gpu_worker(heartbeat, _engine_if_any, _leaving.begun))
    spot.watch(partial(_leaving.end, status=os.EX_OK))
    keeping.forget_old()


def _engine_if_any() -> "Engine | None":
    return _engine


def _now(described: Worker) -> Worker:
    device = _engine.stats().device if _engine is not None else ""
    return replace(described, device=device, running=heartbeat.running())


def _drain() -> None:
    if _leaving is not None:
        _leaving.drain()


@worker_ready.connect
def _ready(sender: Any, **_: object) -> None:
    naming.keep(sender.hostname)
    if _presence is not None:
        _presence.start()
        # Ctrl-C is a request to leave like any other; Celery's own would end running jobs at the second one.
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))


def _warm_up() -> None:
    """Start the engine. A worker that cannot must not go on taking jobs, so its process ends."""
    try:
        try:
            started = engine()
        finally:
            _tried.set()
        if holds(BUILTIN_TINY.slug):
            started.prefetch(BUILTIN_TINY)
        for slug in filter(None, map(str.strip, settings.get().pinned_models.split(","))):
            started.pin(sources.of(slug))
    except BaseException:
        log.exception("the engine does not start")
        give_up("the engine does not start")


@worker_shutting_down.connect
def _stop(**_: object) -> None:
    """Let running jobs use the grace time, then hand them back at their next step."""
    if _leaving is not None:
        grace = settings.get().worker_grace_seconds
        # In a thread: a signal's handler must not wait for a lock that its own thread may hold.
        threading.Thread(target=_leaving.ask, args=(grace,), name="asked-to-leave", daemon=True).start()


@worker_shutdown.connect
def _stopped(**_: object) -> None:
    if _presence is not None:
        _presence.stop()
    if _engine is not None:
        _engine.stop()


def stop_engine() -> None:
    """Stop this process's engine, if it has one; the next job starts another."""
    global _engine
    with _lock:
        stopping, _engine = _engine, None
    if stopping is not None:
        stopping.stop()


def give_up(why: str) -> None:
    """End this process, since its device is of no use any more: whoever supervises it starts another."""
    log.critical("%s: this worker ends", why)
    if _leaving is not None:
        _leaving.end(0.0, os.EX_UNAVAILABLE)


def cancel(request_id: str) -> bool:
    """Ask the engine to stop a request at its next step; False when it does not have it."""
    return _engine is not None and _engine.cancel(request_id)
