"""The message that the API writes to Redis itself is the one that Celery would write."""

import base64
import json
from typing import Any

import pytest
import redis

from pingvas import ids, settings
from pingvas.jobs import dispatch
from pingvas.jobs.dispatch import Bell, bell, broker

pytestmark = pytest.mark.usefixtures("clean_db")

OF_THE_SENDER = ("id", "root_id", "correlation_id", "delivery_tag", "reply_to", "origin")
"""New in each message, or another in each process; nobody reads `reply_to` and `origin`."""


@pytest.mark.parametrize("attempt", [0, 1])
@pytest.mark.parametrize("priority", ["interactive", "batch"])
def test_it_is_the_message_of_celery(priority: str, attempt: int) -> None:
    rung = Bell(ids.new(), "studio", "tiny", priority, attempt)
    server = redis.Redis.from_url(settings.get().broker_url)
    key = bell.redis_key(rung)
    server.delete(key)
    assert dispatch.ring(rung)
    broker._send(rung)
    theirs, ours = (without(json.loads(raw)) for raw in server.lrange(key, 0, -1))
    assert ours == theirs
    server.delete(key)


def test_no_two_messages_have_the_same_names() -> None:
    rung = Bell(ids.new(), "free", "tiny", "interactive", 0)
    one, other = (json.loads(bell.redis_message(rung)) for _ in range(2))
    assert one["headers"]["id"] != other["headers"]["id"]
    assert one["properties"]["delivery_tag"] != other["properties"]["delivery_tag"]


def without(message: dict[str, Any]) -> dict[str, Any]:
    """Decode the body; blank what is the sender's own, once it is seen to be there and to be text."""
    message["body"] = json.loads(base64.b64decode(message["body"]))
    for part in ("headers", "properties"):
        for name in message[part].keys() & set(OF_THE_SENDER):
            assert isinstance(message[part][name], str)
            message[part][name] = ""
    return message
