"""What a message is: the task it calls, its queue, its priority, and the bytes that it is on Redis."""

import base64
import json
import os
import random
import socket
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from pingvas import settings
from pingvas.catalog import entries
from pingvas.jobs import routing

GENERATE: Final = "tasks.generation.generate_image"
RETRY_PRIORITY, INTERACTIVE_PRIORITY, BATCH_PRIORITY = 0, 3, 6  # the lowest goes first

_STEP: Final = "\x06\x16"  # kombu puts it between a queue's name and its priority
_NO_CALLBACKS: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_HEADERS: Final[dict[str, Any]] = {
    "lang": "py",
    "task": GENERATE,
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "parent_id": None,
    "kwargsrepr": "{}",
    "ignore_result": None,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}


@dataclass(frozen=True)
class Bell:
    """What a message needs to be sent, and what Flower shows of it."""

    job_id: UUID
    tier: str
    model: str
    priority: str
    attempt: int

    @property
    def queue(self) -> str:
        """Return the queue's name."""
        entry = entries.find(self.model)
        return routing.queue_of(self.tier, entry.family) if entry else self.tier

    @property
    def argsrepr(self) -> str:
        """Return the arguments as people read them."""
        return f"(tier={self.tier}, model={self.model}, job={self.job_id})"

    @property
    def rank(self) -> int:
        """Return the priority inside the queue; the lowest goes first."""
        if self.attempt:
            return RETRY_PRIORITY
        return INTERACTIVE_PRIORITY if self.priority == "interactive" else BATCH_PRIORITY


def wire_priority(priority: int, broker_url: str | None = None) -> int:
    """Return a priority as the broker counts: Redis takes the lowest number first, RabbitMQ the highest."""
    url = broker_url or settings.get().broker_url
    return BATCH_PRIORITY - priority if settings.is_rabbitmq(url) else priority


def redis_key(bell: Bell) -> str:
    """Return the list on which kombu's Redis transport keeps messages of this queue and priority."""
    return f"{bell.queue}{_STEP}{bell.rank}" if bell.rank else bell.queue


def redis_message(bell: Bell) -> str:
    """Return the message as `apply_async` would put it on that list, at a fifth of the processor time.

    The formats are Celery's task protocol 2 and kombu's virtual transports'. A test compares the two.
    """
    task_id = _name()
    body = json.dumps([[str(bell.job_id)], {}, _NO_CALLBACKS])
    argsrepr = bell.argsrepr
    message = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {**_HEADERS, "id": task_id, "root_id": task_id, "argsrepr": argsrepr, "origin": _origin()},
        "properties": {
            "correlation_id": task_id,
            "reply_to": "",
            "argsrepr": argsrepr,
            "kwargsrepr": "{}",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": bell.queue},
            "priority": bell.rank,
            "body_encoding": "base64",
            "delivery_tag": _name(),
        },
    }
    return json.dumps(message)


def _name() -> str:
    """Return a random UUID. It names a message and is no secret, so it need not cost a call of the kernel."""
    return str(UUID(int=random.getrandbits(128), version=4))


def _origin() -> str:
    return f"gen{os.getpid()}@{socket.gethostname()}"
