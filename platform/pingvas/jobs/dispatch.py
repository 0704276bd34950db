"""The doorbell: the one place in `pingvas` that touches Celery. A message says "look at row N", no more.

A user has at most the plan's `max_concurrent_jobs` on the broker; the rest wait in the table, and ending
one releases the next, so a queue that is first in, first out still takes turns between users.
"""

import logging
import threading
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from kombu.exceptions import OperationalError
from sqlalchemy import text
from sqlalchemy.orm import Session

from pingvas import db, settings
from pingvas.billing import ledger, plans
from pingvas.billing.plans import Tier
from pingvas.jobs import routing

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

_making = threading.Lock()

BrokerAway = OperationalError  # what kombu makes of every transport's own errors

GENERATE = "tasks.generation.generate_image"
RETRY_PRIORITY, INTERACTIVE_PRIORITY, BATCH_PRIORITY = 0, 3, 6  # the lowest goes first


@dataclass(frozen=True)
class Bell:
    """What a message needs to be sent, and what Flower shows of it."""

    job_id: UUID
    tier: str
    model: str
    priority: str
    attempt: int


def wire_priority(priority: int, broker_url: str | None = None) -> int:
    """Return a priority as the broker counts: Redis takes the lowest number first, RabbitMQ the highest."""
    url = broker_url or settings.get().broker_url
    return BATCH_PRIORITY - priority if settings.is_rabbitmq(url) else priority


def _celery() -> "Celery":
    with _making:  # Celery's lazy modules do not stand being imported by two threads at once
        return _make_celery()


@cache
def _make_celery() -> "Celery":
    from celery import Celery  # takes longer to import than all of the API

    app = Celery("pingvas", set_as_current=False)
    app.config_from_object("celeryconfig")
    # Whoever submits must not wait for a broker that is away: the row is safe, the sweep rings later.
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "max_retries": 1,
        "interval_start": 0,
        "socket_timeout": 1,
        "socket_connect_timeout": 0.5,
        "connect_timeout": 0.5,  # RabbitMQ's names
        "write_timeout": 1,
    }
    return app


_RELEASE = text("""
    UPDATE jobs SET rung_at = clock_timestamp() WHERE id IN (
        SELECT id FROM jobs
        WHERE user_id = :user AND status = 'pending' AND rung_at IS NULL AND run_after <= clock_timestamp()
        ORDER BY attempt DESC, priority DESC, id  -- retries, then interactive, then batch
        LIMIT CASE WHEN CAST(:places AS bigint) IS NOT NULL THEN greatest(0, :places - (
            SELECT count(*) FROM jobs WHERE user_id = :user
            AND (status = 'in_progress' OR (status = 'pending' AND rung_at IS NOT NULL)))) END)
    RETURNING id, tier, model, priority, attempt""")


def refill(session: Session, user_id: UUID) -> None:
    """Give a user's free places on the broker to the jobs that wait longest; they ring after the commit."""
    ledger.lock(session, user_id)  # two refills of one user must not give the same place twice
    tier = session.scalar(text("SELECT tier FROM users WHERE id = :user"), {"user": user_id})
    places = plans.limit(plans.of(str(tier)).max_concurrent_jobs)
    for row in session.execute(_RELEASE, {"user": user_id, "places": places}):
        db.after_commit(partial(ring, Bell(*row)))


def ring(bell: Bell) -> bool:
    """Send a job's message to its tier's queue; False when the broker is away (the sweep rings again)."""
    priority = INTERACTIVE_PRIORITY if bell.priority == "interactive" else BATCH_PRIORITY
    try:
        _celery().send_task(
            GENERATE,
            args=[str(bell.job_id)],
            queue=bell.tier,
            priority=wire_priority(RETRY_PRIORITY if bell.attempt else priority),
            argsrepr=f"(job={bell.job_id}, tier={bell.tier}, model={bell.model})",
            kwargsrepr="{}",
            retry=False,
        )
    except BrokerAway as error:
        log.warning("job %s waits for the sweep, the broker is away: %s", bell.job_id, error)
        return False
    return True


def depths() -> dict[str, int]:
    """Return the number of messages in each tier's queues.

    Raises:
        BrokerAway: it cannot be reached.
    """
    app, found = _celery(), dict.fromkeys(map(str, Tier), 0)
    with app.connection_for_read() as connection:
        try:
            for name in routing.all_queues():
                # Declared and not only asked for: a queue that no worker has opened yet is simply empty.
                queue: Any = app.amqp.queues[name].bind(connection.default_channel)
                found[str(routing.tier_of(name))] += int(queue.queue_declare().message_count)
        except (*connection.connection_errors, *connection.channel_errors) as error:
            raise BrokerAway(str(error)) from error
    return found
