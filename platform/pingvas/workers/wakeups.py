"""Telling a worker to look at one of its jobs now, and not only at its next heartbeat."""

import logging
import threading
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import redis

from pingvas import settings
from pingvas.events.connection import client as connected

_LISTEN_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 2.0

log = logging.getLogger(__name__)


def wake(worker: str, job_id: UUID) -> bool:
    """Ask the worker of that name to look at a job's row; False when nobody can have heard.

    Best effort: a worker that does not hear looks at its next heartbeat.
    """
    client = connected(settings.get().events_url)
    if client is None:
        return False
    try:
        return bool(client.publish(_channel(worker), str(job_id)))
    except redis.RedisError as error:
        log.warning("job %s: its worker was not woken: %s", job_id, error)
        return False


def listen(worker: str, look: Callable[[UUID], object], stop: threading.Event) -> None:
    """Call `look` with each job that somebody wakes the worker for, until `stop` is set.

    Returns within a second or so of `stop`. An outage of Redis is waited out.
    """
    client = connected(settings.get().events_url)
    if client is None:
        return
    told = False
    while not stop.is_set():
        try:
            with client.pubsub(ignore_subscribe_messages=True) as subscription:
                subscription.subscribe(_channel(worker))
                told = False
                _hear(subscription, look, stop)
        except (redis.RedisError, OSError) as error:
            if not told:
                log.warning("wake-ups are not heard, cancelling takes a heartbeat: %s", error)
            told = True
            stop.wait(_AGAIN_SECONDS)


def _hear(subscription: Any, look: Callable[[UUID], object], stop: threading.Event) -> None:
    while not stop.is_set():
        message = subscription.get_message(timeout=_LISTEN_SECONDS)
        if message is not None:
            look(UUID(message["data"]))


def _channel(worker: str) -> str:
    return f"pingvas:worker:{worker}:wake"
