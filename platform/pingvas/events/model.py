"""An event, its place in the job's stream, and the event that a job's row amounts to."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

CHANNEL: Final = "pingvas:doorbell"
"""Pub/sub channel on which every publisher names the job whose stream has grown, or who is shut out."""

_WHOSE: Final = "user:"

START: Final = "0-0"
"""The position before the first event of any stream."""

FIRST: Final = "0-1"
"""The position of the first event, that the job waits: the same for all jobs, so it stands in no stream."""

ENDED: Final = frozenset({"completed", "failed", "cancelled"})
"""The states of a job that nothing follows."""

_LAST = 2**64 - 1  # the largest number in a stream id
_POSITION = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?")
_FAILED_FIELDS = ("job_id", "status", "attempt", "error", "error_message", "credits_consumed", "completed_at")
_CANCELLED_FIELDS = (
    "job_id",
    "status",
    "attempt",
    "progress",
    "reason",
    "credits_consumed",
    "gpu_seconds",
    "completed_at",
)
_STATUS_FIELDS = ("job_id", "status", "attempt", "position", "progress")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: `id` is its position, `type` is `status`, `progress`, `completed` or `failed`."""

    id: str
    type: str
    data: dict[str, Any]

    @property
    def last(self) -> bool:
        """Whether the job has ended with this event."""
        return self.type in ("completed", "failed") or (
            self.type == "status" and self.data.get("status") == "cancelled"
        )

    def json(self) -> str:
        """Return the data on one line, as SSE wants it."""
        return json.dumps(self.data, separators=(",", ":"), default=str)


def first(job_id: str, total_steps: int) -> Event:
    """Return the event that the life of a job began with."""
    progress = {"step": 0, "total_steps": total_steps, "percent": 0}
    waits = {"job_id": job_id, "status": "pending", "attempt": 0, "position": None, "progress": progress}
    return Event(FIRST, "status", waits)


def knock_of(user_id: str | UUID) -> str:
    """Return what the doorbell says when a user's followers have to be looked at again."""
    return f"{_WHOSE}{user_id}"


def is_knock(name: str) -> bool:
    """Tell whether `knock_of` made this."""
    return name.startswith(_WHOSE)


def stream_key(job_id: str | UUID) -> str:
    """Return the Redis key of a job's stream."""
    return f"job:{job_id}:events"


def position(text: str | None) -> str:
    """Return the position that a client resumes from; anything but a stream id means the start."""
    match = _POSITION.fullmatch(text or "")
    if match is None:
        return START
    parts = (int(match[1]), int(match[2] or 0))
    return START if max(parts) > _LAST else f"{parts[0]}-{parts[1]}"


def beyond(place: str) -> str:
    """Return the position of a last event that comes after `place` but stands in no stream.

    Its sequence number is one that Redis never gives, so a client that comes back with it is known to
    have been told the end.
    """
    return f"{place.partition('-')[0]}-{_LAST}"


def following(place: str) -> str:
    """Return the position right after `place`, for an event that stands in no stream."""
    milliseconds, sequence = _parts(place)
    return f"{milliseconds}-{sequence + 1}" if sequence < _LAST else f"{milliseconds + 1}-0"


def is_later(place: str, than: str) -> bool:
    """Tell whether `place` comes after `than`."""
    return _parts(place) > _parts(than)


def is_of_another_stream(place: str, newest: str) -> bool:
    """Tell whether `place` lies ahead of all that a stream holds, up to `newest`.

    Then Redis has lost the stream that `place` is from. Only milliseconds count: `following` and `beyond`
    change the sequence number alone.
    """
    return _parts(place)[0] > _parts(newest)[0]


def _parts(place: str) -> tuple[int, int]:
    milliseconds, _, sequence = place.partition("-")
    return int(milliseconds), int(sequence)


def is_beyond(place: str) -> bool:
    """Tell whether `beyond` made this position."""
    return place.endswith(f"-{_LAST}")


def of_job(job: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return type and data of the event that amounts to `job`, the object of `GET /api/v1/jobs/{id}`.

    `completed` (the whole object) and `failed` for jobs that ended so, else `status`.
    """
    status = job.get("status")
    if status == "completed":
        return "completed", dict(job)
    if status == "failed":
        return "failed", _pick(job, _FAILED_FIELDS)
    return "status", _pick(job, _CANCELLED_FIELDS if status == "cancelled" else _STATUS_FIELDS)


def _pick(job: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: job[field] for field in fields if field in job}
