"""When a key was last used, to the minute, written by a thread: no request waits for it."""

import atexit
import logging
import threading
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from pingvas import clock, db

log = logging.getLogger(__name__)

EVERY: Final = timedelta(minutes=1)
_FLUSH_SECONDS: Final = 2.0


class _Writer:
    """Collects keys that were used; its thread writes them down together."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._used: dict[UUID, datetime] = {}
        self._writing = False
        self._thread: threading.Thread | None = None

    def note(self, key_id: UUID, moment: datetime) -> None:
        with self._changed:
            self._used[key_id] = moment
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="key-uses", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._used and not self._writing, _FLUSH_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._used)
                used, self._used, self._writing = self._used, {}, True
            try:
                _write(used)
            except SQLAlchemyError as error:  # the next use is noted again
                log.warning("the use of %d keys was not noted: %s", len(used), error)
            with self._changed:
                self._writing = False
                self._changed.notify_all()


def _write(used: dict[UUID, datetime]) -> None:
    with db.transaction() as session:
        for key_id, moment in sorted(used.items()):  # in order: two processes must not lock crosswise
            session.execute(select(func.note_key_use(key_id, moment, EVERY)))


_writer = _Writer()


def note(key_id: UUID, last_used_at: datetime | None) -> None:
    """Remember that a key was used, at most once a minute: a write for each request would make a hot row."""
    now = clock.now()
    if last_used_at is None or last_used_at <= now - EVERY:
        _writer.note(key_id, now)


def flush() -> None:
    """Wait until what was noted is written, two seconds at most."""
    _writer.flush()


atexit.register(flush)
