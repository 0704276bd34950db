"""The process's connection to the Redis of events."""

import logging
from functools import lru_cache

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)


@lru_cache(maxsize=4)
def client(url: str) -> "redis.Redis[str] | None":
    """Return the process's client, or None without a URL.

    It gives up within about a second and never retries: a repeated XADD could append an event twice.
    """
    if not url:
        log.warning("neither REDIS_URL nor BROKER_URL is set: events are not published")
        return None
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=0.5,
        socket_timeout=1.0,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
    )
