"""Guessing costs time: after some failures in a row each further one doubles the wait before the next.

Counted on Redis, for the account that is tried (whether it exists or not) and for the address it is tried
from. An attempt counts as it begins, so that a hundred at once are a hundred; one that succeeds takes its
count back. While Redis is away nobody waits, as with all limits (docs/decisions/0011).
"""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import redis

from pingvas import settings
from pingvas.errors import TooMany
from pingvas.events.connection import client as connected

log = logging.getLogger(__name__)

_PREFIX: Final = "pingvas:lockout"
_FIRST_SECONDS, _MOST_SECONDS = 15, 900
_REMEMBERED_SECONDS: Final = 86_400
_ADDRESS_FACTOR: Final = 5
"""People share an address, so it has more failures free than an account."""

_ENTER = """
local waits = 0
for i = 1, #KEYS, 2 do
    local left = redis.call('PTTL', KEYS[i + 1])
    if left > waits then waits = left end
end
if waits > 0 then return waits end
for i = 1, #KEYS, 2 do
    local over = redis.call('INCR', KEYS[i]) - tonumber(ARGV[(i + 1) / 2])
    redis.call('EXPIRE', KEYS[i], ARGV[#ARGV])
    if over > 0 then
        local first, most = tonumber(ARGV[#ARGV - 2]), tonumber(ARGV[#ARGV - 1])
        local seconds = math.min(first * 2 ^ math.min(over - 1, 20), most)
        redis.call('SET', KEYS[i + 1], 1, 'PX', math.floor(seconds * 1000))
    end
end
return 0
"""

_TAKE_BACK = """
local count = redis.call('DECR', KEYS[1])
if count <= 0 then redis.call('DEL', KEYS[1]) end
if count <= tonumber(ARGV[1]) then redis.call('DEL', KEYS[2]) end
"""


@dataclass(frozen=True)
class _Counter:
    """Failures of one account or address, of which `free` cost no time."""

    name: str
    free: int

    @property
    def keys(self) -> tuple[str, str]:
        return f"{_PREFIX}:{self.name}:count", f"{_PREFIX}:{self.name}:lock"


def enter(account: str, address: str | None) -> None:
    """Count an attempt on `account` from `address` (None: it is not counted).

    Raises:
        TooMany: either has to wait; it is not said which.
    """
    counters = _counters(account, address)
    keys = [key for counter in counters for key in counter.keys]
    arguments = [counter.free for counter in counters]
    arguments += [_FIRST_SECONDS, _MOST_SECONDS, _REMEMBERED_SECONDS]
    milliseconds = _run(_ENTER, keys, arguments) if counters else None
    if milliseconds:
        seconds = math.ceil(milliseconds / 1_000)
        raise TooMany(
            f"Too many failed attempts; try again in {seconds} s.",
            policy="failures",
            limit=counters[0].free,
            window=_REMEMBERED_SECONDS,
            retry_after=seconds,
        )


def succeeded(account: str, address: str | None) -> None:
    """Forget the account's failures; of the address's, only this attempt.

    Else one good account of one's own would cover for any number of guesses.
    """
    forget(account)
    _take_back(_counters(account, address)[1:])


def undo(account: str, address: str | None) -> None:
    """Take an attempt back that neither failed nor succeeded."""
    _take_back(_counters(account, address))


def forget(account: str) -> None:
    """Forget the failures of an account: its owner has proved otherwise who he is."""
    for counter in _counters(account, None):
        _run("return redis.call('DEL', KEYS[1], KEYS[2])", counter.keys, [])


def _take_back(counters: Sequence[_Counter]) -> None:
    for counter in counters:
        _run(_TAKE_BACK, counter.keys, [counter.free])


def _counters(account: str, address: str | None) -> list[_Counter]:
    free = settings.get().lockout_attempts
    if not free:
        return []
    # Hashed: whoever reads Redis learns no addresses of customers, and any text makes a key.
    name = hashlib.sha256(account.strip().lower().encode()).hexdigest()[:32]
    counters = [_Counter(f"account:{name}", free)]
    if address is not None:
        counters.append(_Counter(f"address:{address}", free * _ADDRESS_FACTOR))
    return counters


def _run(script: str, keys: Sequence[str], arguments: Sequence[object]) -> Any:
    url = settings.get().events_url
    try:
        return _script(url, script)(list(keys), list(arguments)) if url else None
    except redis.RedisError as error:
        log.warning("failed sign-ins are not counted, Redis is away: %s", error)
        return None


@lru_cache(maxsize=16)
def _script(url: str, script: str) -> Any:
    client = connected(url)
    assert client is not None
    return client.register_script(script)
