"""One worker to a name: Celery would let two answer to it, so a second one ends before it takes anything.

The database's lock decides between those that start at the same moment; the ping finds one that has lost
its lock with the database, for instance in a restart of it.
"""

import logging
import os
from functools import cache
from typing import Final

import redis

from pingvas import db
from pingvas.jobs.dispatch import broker
from pingvas.workers import Name

log = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 1.0


def take(name: str) -> None:
    """Take the name for this process.

    Raises:
        SystemExit: another process has it.
    """
    if not _is_free(name) or _answers(name):
        raise SystemExit(f"A worker named {name} is up already. Choose another with --name.")


def keep(name: str) -> None:
    """See that the name is still this process's, now that it answers to it.

    Raises:
        SystemExit: the lock was lost meanwhile and another process has taken it.
    """
    if not _is_free(name):
        log.critical("another worker has taken the name %s: this one ends", name)
        raise SystemExit(os.EX_UNAVAILABLE)


@cache
def _own(name: str) -> Name:
    return Name(name)


def _is_free(name: str) -> bool:
    try:
        return _own(name).take()
    except db.PASSING as error:
        log.warning("whether another worker has this name is not known: %s", error)
        return True


def _answers(name: str) -> bool:
    control = broker.celery().control  # not the worker's own, which would wait for a broker that is away
    inspect = control.inspect(destination=[name], timeout=_ANSWER_SECONDS, limit=1)
    try:
        return bool(inspect.ping())
    except (broker.BrokerAway, redis.RedisError, OSError) as error:
        log.warning("whether another worker has this name is not known: %s", error)
        return False
