"""Servers around an instance that fail, under default settings."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.recovery.orders import SHORT, ended, row, started, wait
from tests.recovery.up import GPU, Up

_DRAWN: Final = {"prompt": "a red circle", "steps": 60}
_POSTPONED_SECONDS: Final = (
    60.0  # a lease that is longer than that is one of pictures that wait for the store
)
_AWAY_SECONDS: Final = 2.0


def database_restarted(up: Up) -> list[float]:
    """A fast restart of PostgreSQL; from its end until the next order is accepted."""
    return [_accepted_after_restart(up, hard=False)]


def database_killed(up: Up) -> list[float]:
    """Kill -9 of PostgreSQL; from the end of its start until the next order is accepted."""
    return [_accepted_after_restart(up, hard=True)]


def _accepted_after_restart(up: Up, *, hard: bool) -> float:
    up.world.restart_postgres(hard)
    back = time.time()
    job_id = up.customer.order(**SHORT)
    seconds = time.time() - back
    ended(job_id)
    return seconds


def store_away(up: Up) -> list[float]:
    """The folder of pictures is gone when one is finished; from its return until the job is done."""
    job_id = up.customer.running(**_DRAWN)
    pictures, aside = up.folder.path / "pictures", up.folder.path / "pictures-aside"
    pictures.rename(aside)
    pictures.symlink_to(pictures)  # a loop: neither there nor absent
    _wait_until_met(job_id)
    pictures.unlink()
    aside.rename(pictures)
    back = time.time()
    return [ended(job_id) - back]


def disk_full(up: Up) -> list[float]:
    """The worker can write no byte, not to its own disk either; from when it can until the job is done."""
    job_id = up.customer.running(**_DRAWN)
    with _no_room(up.pid(GPU)):
        _wait_until_met(job_id)
    back = time.time()
    return [ended(job_id) - back]


def messages_lost(up: Up) -> list[float]:
    """The broker forgets a message that no worker has taken yet; until the job starts."""
    up.kill(GPU)  # it is back before the sweep
    job_id = up.customer.order(**SHORT)
    up.world.broker.forget()
    return [_since(time.time(), job_id)]


def broker_restarted(up: Up) -> list[float]:
    """Kill -9 of the broker, an order while it is away; from its return until the job starts."""
    up.world.broker.line.refuse(True)
    job_id = up.customer.order(**SHORT)
    up.world.broker.restart()
    up.world.broker.line.refuse(False)
    return [_since(time.time(), job_id)]


def silent_line(up: Up) -> list[float]:
    """The lines to the broker fall silent and are not closed; until the jobs of two orders start."""
    silent = time.time()
    up.world.broker.line.fall_silent()
    time.sleep(_AWAY_SECONDS)
    # The message that a worker takes while it finds out about its other lines may be lost with them.
    orders = [up.customer.order(**SHORT) for _ in range(2)]
    return sorted(_since(silent, job_id) for job_id in orders)


def _since(moment: float, job_id: str) -> float:
    seconds = started(job_id, 1) - moment
    ended(job_id)
    return seconds


def _wait_until_met(job_id: str) -> None:
    """Wait until the job's worker has met the outage: it puts the deadline off, and tries each second."""
    before = row(job_id).deadline
    wait(job_id, lambda row: row.deadline != before)
    time.sleep(_AWAY_SECONDS)


@contextmanager
def _no_room(group: int) -> Iterator[None]:
    limit = resource.prlimit(group, resource.RLIMIT_FSIZE)
    resource.prlimit(group, resource.RLIMIT_FSIZE, (0, limit[1]))
    yield
    resource.prlimit(group, resource.RLIMIT_FSIZE, limit)
