"""A worker's name is one process's at a time: a lock of the database that goes with its connection."""

import logging
from typing import Final

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from pingvas import db

log = logging.getLogger(__name__)

_PATIENCE: Final = "2s"  # the server may not have heard yet that the process before has died
_LOCK = text("SELECT pg_advisory_lock(hashtextextended('worker:' || :name, 0))")
_WAIT = text("SELECT set_config('lock_timeout', :patience, false)")
_ALIVE = text("SELECT 1")


class Name:
    """The claim of this process to one name; it lasts as long as the process and the database do."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Take the name, or see that it is still ours; False when another process has it.

        Raises:
            db.PASSING: the database is away, nobody knows.
        """
        return self._is_ours() or self._lock()

    def _is_ours(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(_ALIVE)
        except db.PASSING:
            log.warning("the lock on the name %s was lost with its connection", self._name)
            self.give_up()
        return self._connection is not None

    def _lock(self) -> bool:
        self._connection = db.engine().connect().execution_options(isolation_level="AUTOCOMMIT")
        self._connection.detach()  # it is nobody else's any more, and not closed after half an hour
        try:
            self._connection.execute(_WAIT, {"patience": _PATIENCE})
            self._connection.execute(_LOCK, {"name": self._name})
        except OperationalError as error:
            self.give_up()
            if isinstance(error.orig, psycopg.errors.LockNotAvailable):
                return False
            raise
        return True

    def give_up(self) -> None:
        """Let others have the name."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
