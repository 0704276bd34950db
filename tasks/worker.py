"""A GPU worker process around its tasks: the engine it owns, and how it starts and leaves."""

import logging
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

from celery.signals import worker_init, worker_shutting_down

from gpu_worker.builtin import BUILTIN_TINY
from gpu_worker.config import EngineConfig
from pingvas import settings
from pingvas.billing.plans import Tier

if TYPE_CHECKING:
    from gpu_worker.engine import Engine

log = logging.getLogger(__name__)

_lock = threading.Lock()
_engine: "Engine | None" = None


def name() -> str:
    """Return what a job's row says of who runs it."""
    return f"{socket.gethostname()}:{os.getpid()}"


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
    if not set(sender.app.amqp.queues.consume_from).isdisjoint(Tier):
        try:
            EngineConfig.from_env(os.environ)
        except ValueError as error:
            raise SystemExit(str(error)) from None  # a signal's receivers may not raise anything less
        threading.Thread(target=_warm_up, name="engine-start", daemon=True).start()


def _warm_up() -> None:
    """Start the engine. A worker that cannot must not go on taking jobs, so its process ends."""
    try:
        engine().prefetch(BUILTIN_TINY)
    except BaseException:
        log.exception("the engine does not start")
        os.kill(os.getpid(), signal.SIGTERM)


@worker_shutting_down.connect
def _stop(**_: object) -> None:
    """Let running jobs use the grace time, then hand them back at their next step."""
    if _engine is not None:
        grace = settings.get().worker_grace_seconds
        threading.Thread(target=_engine.stop, args=(grace,), name="engine-stop").start()


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
