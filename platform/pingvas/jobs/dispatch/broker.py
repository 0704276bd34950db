"""Sending to the broker, and asking how much it holds."""

import logging
import threading
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import redis
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from pingvas import settings
from pingvas.billing.plans import Tier
from pingvas.jobs import routing
from pingvas.jobs.dispatch.bell import GENERATE, Bell, redis_key, redis_message, wire_priority

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

BrokerAway = OperationalError  # what kombu makes of every transport's own errors

# Whoever submits must not wait for a broker that is away: the row is safe, the sweep rings later.
_CONNECT_SECONDS = 0.5
_ANSWER_SECONDS = 1.0

_AGAIN = {"max_retries": 1, "interval_start": 0}  # over a new line: the old one may have fallen silent

_making = threading.Lock()


def ring(*bells: Bell) -> bool:
    """Send jobs' messages to their queues; False when the broker is away (the sweep rings again)."""
    try:
        if settings.is_rabbitmq(settings.get().broker_url):
            for bell in bells:
                _send(bell)
        else:
            _push(bells)
    except (BrokerAway, redis.RedisError) as error:
        log.warning("%s jobs wait for the sweep, the broker is away: %s", len(bells), error)
        return False
    return True


def _push(bells: Sequence[Bell]) -> None:
    with _redis(settings.get().broker_url).pipeline(transaction=False) as pipeline:
        for bell in bells:
            pipeline.lpush(redis_key(bell), redis_message(bell))
        pipeline.execute()


def _send(bell: Bell) -> None:
    celery().send_task(
        GENERATE,
        args=[str(bell.job_id)],
        queue=bell.queue,
        priority=wire_priority(bell.rank),
        argsrepr=bell.argsrepr,
        kwargsrepr="{}",
        retry=True,
        retry_policy=_AGAIN,
    )


@lru_cache(maxsize=4)
def _redis(url: str) -> "redis.Redis[bytes]":
    """Return this process's client. It tries a second time: a message that came twice changes nothing."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=_ANSWER_SECONDS,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 1),
    )


def celery() -> "Celery":
    """Return this process's Celery application, for sending and asking only."""
    with _making:  # Celery's lazy modules do not stand being imported by two threads at once
        return _make_celery()


@cache
def _make_celery() -> "Celery":
    from celery import Celery  # takes longer to import than all of the API

    app = Celery("pingvas", set_as_current=False)
    app.config_from_object("celeryconfig")
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "max_retries": 1,
        "interval_start": 0,
        "socket_timeout": _ANSWER_SECONDS,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "connect_timeout": _CONNECT_SECONDS,  # RabbitMQ's names
        "write_timeout": _ANSWER_SECONDS,
    }
    return app


def depths() -> dict[str, int]:
    """Return the number of messages in each tier's queues.

    Raises:
        BrokerAway: it cannot be reached.
    """
    app, found = celery(), dict.fromkeys(map(str, Tier), 0)
    with app.connection_for_read() as connection:
        try:
            for name in routing.all_queues():
                # Declared and not only asked for: a queue that no worker has opened yet is simply empty.
                queue: Any = app.amqp.queues[name].bind(connection.default_channel)
                found[str(routing.tier_of(name))] += int(queue.queue_declare().message_count)
        except (*connection.connection_errors, *connection.channel_errors) as error:
            raise BrokerAway(str(error)) from error
    return found
