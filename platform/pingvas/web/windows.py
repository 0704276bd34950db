"""At most n in any window of s seconds, counted on Redis: a list of the moments of the last n.

Exact at every edge, unlike counters of fixed windows, which let 2n through around their border; O(1) for
each call, since every moment is pushed and popped once. Why not Flask-Limiter: docs/decisions/0011.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import redis
from redis.exceptions import NoScriptError

from pingvas import clock, settings
from pingvas.events.connection import client as connected
from pingvas.together import Together

log = logging.getLogger(__name__)

PREFIX = "pingvas:limit"
AWAY_SECONDS = 5.0  # Redis is left alone after a failure: a hanging one must not slow every request
TOLD_SECONDS = 60.0

_TAKE = """
local now, window, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = redis.call('LINDEX', KEYS[1], -1)
while oldest and tonumber(oldest) <= now - window do
    redis.call('RPOP', KEYS[1])
    oldest = redis.call('LINDEX', KEYS[1], -1)
end
local used = redis.call('LLEN', KEYS[1])
if used >= most then return {-1, oldest + window - now} end
redis.call('LPUSH', KEYS[1], now)
redis.call('PEXPIRE', KEYS[1], window)
return {most - used - 1, (oldest or now) + window - now}
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """`most` calls in any `seconds`."""

    name: str
    most: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A place in a window; `remaining` are left, -1: there was none. In `reset` seconds there is one more."""

    policy: Policy
    who: str
    moment: int
    remaining: int
    reset: int


def take(policy: Policy, who: str) -> Taken | None:
    """Take one of a caller's places; None while Redis is away: then nobody is limited."""
    moment = int(clock.now().timestamp() * 1_000)
    reply = _count((_key(policy, who), moment, policy))
    if reply is None:
        return None
    return Taken(policy, who, moment, int(reply[0]), math.ceil(reply[1] / 1_000))


def give_back(taken: Taken) -> None:
    """Return a place."""
    client = connected(settings.get().events_url)
    if client is not None:
        try:
            client.lrem(_key(taken.policy, taken.who), 1, str(taken.moment))
        except redis.RedisError as error:
            _outage.note(error)


_Called = tuple[str, int, Policy]


class _Outage:
    """Remembers that Redis did not answer, and says so once a minute."""

    def __init__(self) -> None:
        self._until = self._silent_until = 0.0

    @property
    def lasts(self) -> bool:
        return time.monotonic() < self._until

    def note(self, error: Exception) -> None:
        now = time.monotonic()
        self._until = now + AWAY_SECONDS
        if now >= self._silent_until:
            self._silent_until = now + TOLD_SECONDS
            log.warning("rates are not limited, Redis is away: %s", error)


_outage = _Outage()


def _ask(calls: Sequence[_Called]) -> Sequence[Any]:
    url = settings.get().events_url
    if not url or _outage.lasts:
        return [None] * len(calls)
    try:
        return _run(url, calls)
    except redis.RedisError as error:
        _outage.note(error)
        return [None] * len(calls)


def _run(url: str, calls: Sequence[_Called]) -> Sequence[Any]:
    script = _script(url)
    if len(calls) == 1:
        return [script([calls[0][0]], _arguments(calls[0]))]
    # A script's own call on a pipeline asks first whether the server knows it: a round trip more.
    with script.registered_client.pipeline(transaction=False) as pipeline:
        for call in calls:
            pipeline.evalsha(script.sha, 1, call[0], *_arguments(call))
        replies = pipeline.execute(raise_on_error=False)
    for number, reply in enumerate(replies):
        if isinstance(reply, NoScriptError):
            replies[number] = script([calls[number][0]], _arguments(calls[number]))
        elif isinstance(reply, redis.RedisError):
            raise reply
    return list(replies)


def _arguments(call: _Called) -> list[int]:
    _, moment, policy = call
    return [moment, policy.seconds * 1_000, policy.most]


_count: Together[_Called, Any] = Together(_ask)


@lru_cache(maxsize=4)
def _script(url: str) -> Any:
    client = connected(url)
    assert client is not None
    return client.register_script(_TAKE)


def _key(policy: Policy, who: str) -> str:
    return f"{PREFIX}:{policy.name}:{who}"
