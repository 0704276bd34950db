"""Asking a worker to leave: it looks for that each time it says that it is there."""

import logging
from typing import Final

import redis

from pingvas import settings
from pingvas.events.connection import client as connected

_REMEMBERED_SECONDS: Final = 86_400  # a name holds the process's id: it is not asked of whoever comes after

log = logging.getLogger(__name__)


def ask_to_drain(name: str) -> None:
    """Ask the worker of that name to take no more jobs, and to end with the last it has.

    Raises:
        redis.RedisError: Redis is away, nobody was asked.
    """
    client = connected(settings.get().events_url)
    if client is not None:
        client.set(_key(name), "asked", ex=_REMEMBERED_SECONDS)


def asked_to_drain(name: str) -> bool:
    """Return whether somebody asked; False when Redis is away."""
    client = connected(settings.get().events_url)
    if client is None:
        return False
    try:
        return bool(client.exists(_key(name)))
    except redis.RedisError as error:
        log.warning("worker %s does not know whether it is to leave: %s", name, error)
        return False


def _key(name: str) -> str:
    return f"pingvas:worker:{name}:drain"
