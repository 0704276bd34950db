"""Writing and reading a job's stream from threads (API views, workers, beat)."""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import redis

from pingvas import settings
from pingvas.events.connection import client as connected
from pingvas.events.model import CHANNEL, START, Event, knock_of, stream_key

MAX_LENGTH: Final = 1_000
LIFE_SECONDS: Final = 86_400
_PROGRESS_WITHIN = 5

log = logging.getLogger(__name__)


def publish(job_id: str | UUID, type: str, data: Mapping[str, Any]) -> str | None:  # noqa: A002 (an event's type)
    """Append an event to the job's stream and ring the doorbell; return the event's id.

    Best effort: without a reachable Redis this logs and returns None within about a second. Call it
    after the commit. `type` is `status`, `progress`, `completed` or `failed`; the last two, and a
    `status` that says `cancelled`, end the stream for everybody who follows it.
    """
    client = connected(settings.get().events_url)
    if client is None:
        return None
    key = stream_key(job_id)
    try:
        with client.pipeline(transaction=True) as batch:
            batch.xadd(key, fields(type, data), maxlen=MAX_LENGTH, approximate=True)
            batch.expire(key, LIFE_SECONDS)
            batch.publish(CHANNEL, str(job_id))
            return str(batch.execute()[0])
    except redis.RedisError as error:
        log.warning("event %s of job %s not published: %s", type, job_id, error)
        return None


def knock(user_id: UUID) -> None:
    """Have everybody who follows a job of this user looked at again: some may do so no longer.

    Best effort, as `publish`, and after the commit as well. Who is not reached is asked within a minute.
    """
    client = connected(settings.get().events_url)
    if client is None:
        return
    try:
        client.publish(CHANNEL, knock_of(user_id))
    except redis.RedisError as error:
        log.warning("followers of user %s are not looked at now: %s", user_id, error)


def read(job_id: str | UUID, after: str = START) -> list[Event]:
    """Return the events after the position `after`, oldest first; empty when Redis cannot be reached."""
    client = connected(settings.get().events_url)
    if client is None:
        return []
    try:
        return parse(client.xrange(stream_key(job_id), min=f"({after}"))
    except redis.RedisError as error:
        log.warning("events of job %s not read: %s", job_id, error)
        return []


def latest_progress(job_id: str | UUID) -> dict[str, Any] | None:
    """Return the data of the newest `progress` event of the attempt that runs, or None when there is none."""
    client = connected(settings.get().events_url)
    if client is None:
        return None
    try:
        newest = parse(client.xrevrange(stream_key(job_id), count=_PROGRESS_WITHIN))
    except redis.RedisError as error:
        log.warning("progress of job %s not read: %s", job_id, error)
        return None
    # A new attempt begins with a `status`: the steps before it are another attempt's.
    told = (event for event in newest if event.type == "progress" or not event.last)
    last = next(told, None)
    return last.data if last is not None and last.type == "progress" else None


def fields(type: str, data: Mapping[str, Any]) -> dict[Any, Any]:  # noqa: A002 (an event's type)
    """Return the fields of the stream entry that holds an event."""
    return {"type": type, "data": json.dumps(data, separators=(",", ":"), default=str)}


def parse(entries: Any) -> list[Event]:
    """Return the events of stream entries (`[(id, fields), …]`, decoded); foreign entries are left out."""
    return [
        Event(id, entry["type"], json.loads(entry["data"]))
        for id, entry in entries  # noqa: A001 (Redis calls it so)
        if "type" in entry and "data" in entry
    ]
