"""One picture per process, renewed behind its readers' backs."""

import logging
import threading
import time
from collections.abc import Callable
from statistics import fmean

from sqlalchemy.exc import SQLAlchemyError

from pingvas import db, settings, workers
from pingvas.jobs.eta import picture
from pingvas.jobs.eta.picture import Picture

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
STALE_SECONDS = 10.0  # somebody who finds an older one waits for the next
PATIENCE_SECONDS = 0.5
DUTY = 0.02  # of one core is what reading may take, however much waits


def read() -> Picture:
    """Read a picture in a transaction of its own."""
    slots = [worker.slots for worker in workers.live()] or [settings.get().worker_concurrency]
    with db.transaction() as session:
        return picture.take(session, round(fmean(slots)))


class Snapshots:
    """Serves what was read last. One thread reads at a time, at most once a second and 2 % of the time."""

    def __init__(self, read: Callable[[], Picture] = read) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._known: Picture | None = None
        self._next = 0.0
        self._reading: threading.Thread | None = None

    def get(self) -> Picture:
        """Return a picture; a blank one while the database cannot be reached."""
        now, known = time.monotonic(), self._known
        if known is not None and now < self._next:
            return known
        reading = self._start()
        if known is None or now > max(self._next, known.taken + STALE_SECONDS):
            reading.join(PATIENCE_SECONDS)
        return self._known or picture.blank()

    def joined(self, tier: str) -> None:
        """Count a job that this process has put on a tier's queue since the picture was taken."""
        with self._lock:
            if self._known is not None:
                self._known = self._known.with_another(tier)

    def forget(self) -> None:
        """Let the next `get` read and wait for it."""
        if self._reading is not None:
            self._reading.join()
        self._known, self._next = None, 0.0

    def _start(self) -> threading.Thread:
        with self._lock:
            if self._reading is None or not self._reading.is_alive():
                # A thread of its own: the caller may be in the middle of a transaction, and is in a hurry.
                self._reading = threading.Thread(target=self._renew, name="eta", daemon=True)
                self._reading.start()
            return self._reading

    def _renew(self) -> None:
        began = time.monotonic()
        try:
            fresh = self._read()
        except SQLAlchemyError as error:
            log.warning("waits are predicted from what was known: %s", error)
            fresh = None
        took = time.monotonic() - began
        with self._lock:
            self._known = fresh or self._known
            self._next = time.monotonic() + max(FRESH_SECONDS, took / DUTY)


current = Snapshots()
