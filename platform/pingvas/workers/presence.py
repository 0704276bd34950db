"""Who is there: each GPU worker says so every few seconds, and is forgotten when it stops."""

import json
import logging
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import redis

from pingvas import settings
from pingvas.cached import Cached
from pingvas.events.connection import client as connected

ANNOUNCE_SECONDS: Final = 3.0
LIFE_SECONDS: Final = 10
_LOOK_AGAIN_SECONDS: Final = 2.0
_NAMES: Final = "pingvas:workers"  # a set: keys expire one by one, but only a set can be listed cheaply

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """One GPU worker process.

    `name` is what the rows of its jobs say. `families` are those of the catalogue. `slots` is how many
    jobs it takes at once, `running` how many it has. `device` is empty until its engine has started.
    `draining`: it takes no more jobs, and ends with the last it has.
    """

    name: str
    tiers: frozenset[str]
    families: frozenset[str]
    slots: int
    host: str = ""
    pid: int = 0
    queues: tuple[str, ...] = ()
    device: str = ""
    running: int = 0
    draining: bool = False


def announce(worker: Worker) -> bool:
    """Say that a worker is there, for ten seconds; False when Redis cannot be reached."""
    client = connected(settings.get().events_url)
    if client is None:
        return False
    said = json.dumps(asdict(worker), default=sorted)  # JSON has no sets
    try:
        with client.pipeline(transaction=True) as batch:
            batch.set(_key(worker.name), said, ex=LIFE_SECONDS)
            batch.sadd(_NAMES, worker.name)
            batch.execute()
    except redis.RedisError as error:
        log.warning("worker %s could not announce itself: %s", worker.name, error)
        return False
    return True


def withdraw(name: str) -> None:
    """Forget a worker that takes no more jobs."""
    client = connected(settings.get().events_url)
    if client is None:
        return
    try:
        with client.pipeline(transaction=True) as batch:
            batch.delete(_key(name))
            batch.srem(_NAMES, name)
            batch.execute()
    except redis.RedisError as error:
        log.warning("worker %s could not withdraw: its announcement will expire: %s", name, error)


def _ask() -> list[Worker]:
    client = connected(settings.get().events_url)
    if client is None:
        return []
    try:
        names = sorted(client.smembers(_NAMES))
        said = client.mget([_key(name) for name in names]) if names else []
        gone = [name for name, text in zip(names, said, strict=True) if text is None]
        if gone:
            client.srem(_NAMES, *gone)  # one that is only late is in the set again with its next word
    except redis.RedisError as error:
        log.warning("live workers are not known: %s", error)
        return []
    return [_parse(text) for text in said if text is not None]


_seen = Cached(_ask, _LOOK_AGAIN_SECONDS)


def known() -> list[Worker]:
    """Return the workers that are there, as known at most two seconds ago; empty when Redis is away."""
    return _seen.get()


def live() -> list[Worker]:
    """Return those of `known` that take jobs."""
    return [worker for worker in known() if not worker.draining]


def forget() -> None:
    """Let the next `live` ask Redis."""
    _seen.forget()


def _parse(text: str) -> Worker:
    said: dict[str, Any] = json.loads(text)
    known = {field.name for field in fields(Worker)} & said.keys()  # a newer worker may say more
    sets = {name: frozenset(said[name]) for name in ("tiers", "families")}
    return Worker(**{name: said[name] for name in known} | sets | {"queues": tuple(said["queues"])})


def _key(name: str) -> str:
    return f"pingvas:worker:{name}"
