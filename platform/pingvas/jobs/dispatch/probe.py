"""Whether the broker answers, and what it is."""

import redis

from pingvas import settings
from pingvas.jobs.dispatch.broker import BrokerAway, celery


def version(seconds: float) -> str:
    """Return the broker's name and version, as it says itself within `seconds`.

    Raises:
        BrokerAway: it does not answer.
    """
    url = settings.get().broker_url
    return _rabbitmq() if settings.is_rabbitmq(url) else _redis(url, seconds)


def _redis(url: str, seconds: float) -> str:
    try:
        with redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            return f"Redis {client.info('server')['redis_version']}"
    except redis.RedisError as error:
        raise BrokerAway(str(error)) from error


def _rabbitmq() -> str:
    with celery().connection_for_read() as connection:  # impatient, as whoever sends is
        try:
            properties = connection.connection.server_properties
        except connection.connection_errors as error:
            raise BrokerAway(str(error)) from error
        return f"{properties['product']} {properties['version']}"
