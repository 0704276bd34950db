"""What the transitions of `lifecycle` take and give."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pingvas.jobs.dead_letters.classes import DEADLINE_EXCEEDED, POISON_JOB, WORKER_LOST


class Outcome(StrEnum):
    """What a transition came to."""

    DONE = "done"
    RETRY = "retry"
    ASKED = "asked"
    STALE = "stale"


@dataclass(frozen=True)
class Claim:
    """A worker's right to run a job: void once the attempt has moved on.

    `suspect`: a worker was lost with it before, so it has to run alone (`lifecycle.run_alone`).
    `running_seconds` is how long the attempt may run.
    """

    job_id: UUID
    user_id: UUID
    attempt: int
    failures: int
    tier: str
    model: str
    prompt: str
    parameters: dict[str, Any]
    credits_quoted: int
    running_seconds: float
    suspect: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a job did not end well; `detail` is for the customer to read, `cause` for operators."""

    code: str
    detail: str
    retryable: bool
    cause: BaseException | None = None


LOST: Final = Failure(WORKER_LOST, "The worker that ran this job was lost.", retryable=True)
POISON: Final = Failure(
    POISON_JOB, "The workers that ran this job were lost, so it is not tried again.", retryable=False
)


def overdue(again: bool, cause: BaseException | None = None) -> Failure:
    """Return the failure of an attempt that took too long."""
    detail = "The job took longer than it may."
    return Failure(DEADLINE_EXCEEDED, detail if again else f"{detail} It is not tried again.", again, cause)
