"""What kind of failure a code is, and when it is replayed. Pure."""

from enum import StrEnum
from typing import Final

POISON_JOB: Final = "POISON_JOB"
WORKER_LOST: Final = "WORKER_LOST"
DEADLINE_EXCEEDED: Final = "DEADLINE_EXCEEDED"

_CUSTOMERS_OWN: Final = frozenset({"INVALID_PARAMETERS", "MODEL_REMOVED"})
_REPLAY_SECONDS: Final = (60, 600, 3_600)


class Class(StrEnum):
    """Whose matter a dead letter is.

    Poison lost its workers, the last one while it ran alone; resource asked for more than a device or the
    time had; infrastructure failed around the job; ours is everything else, a model of the catalogue that
    does not load for one. A model that left the catalogue is no dead letter: there is nothing to mend.
    """

    POISON = "poison"
    RESOURCE = "resource"
    INFRASTRUCTURE = "infrastructure"
    OURS = "ours"


_CLASSES: Final = {
    POISON_JOB: Class.POISON,
    "OUT_OF_MEMORY": Class.RESOURCE,
    DEADLINE_EXCEEDED: Class.RESOURCE,
    WORKER_LOST: Class.INFRASTRUCTURE,
    "STORE_UNAVAILABLE": Class.INFRASTRUCTURE,
}


def class_of(code: str) -> Class | None:
    """Return a failure code's class; None when it is the customer's own fault and no dead letter."""
    return None if code in _CUSTOMERS_OWN else _CLASSES.get(code, Class.OURS)


def replay_delay(class_: Class, replays: int) -> int | None:
    """Return the seconds until beat replays a job that was replayed `replays` times; None: it does not."""
    if class_ is not Class.INFRASTRUCTURE or replays >= len(_REPLAY_SECONDS):
        return None
    return _REPLAY_SECONDS[replays]
