"""One thread a process renews the leases of the jobs it runs, and hears who must stop."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from pingvas import settings
from pingvas.jobs import lifecycle
from pingvas.jobs.lifecycle import Claim, Outcome

log = logging.getLogger(__name__)


class Why(StrEnum):
    """Why an attempt must stop before its end."""

    STALE = "the job belongs to another attempt"
    CANCELLED = "the customer cancelled it"
    LEAVING = "the worker leaves"


class Pulse:
    """One attempt that runs here; `why` it must stop, once it must. `stop` is called then."""

    def __init__(self, held: Claim, stop: Callable[[], object]) -> None:
        self.held = held
        self.why: Why | None = None
        self._stop = stop
        self._stopped = threading.Event()

    def end(self, why: Why) -> None:
        """Say that the attempt must stop. A stale one stays stale, whatever is said later."""
        if self.why is not Why.STALE:
            self.why = why
        self._stopped.set()
        self._stop()

    def wait(self, seconds: float) -> bool:
        """Let `seconds` pass; True as soon as the attempt must stop."""
        return self._stopped.wait(seconds)


class Heartbeat:
    """Renews leases every `heartbeat_seconds` while any job runs.

    A pulse is an attempt's, not a job's: after a lost lease this process may well run the next attempt
    before the old one has stopped.
    """

    def __init__(self) -> None:
        self._pulses: dict[tuple[UUID, int], Pulse] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._round_at = 0.0  # when all leases were last looked after; outages count as looking after

    @contextmanager
    def keep(self, held: Claim, stop: Callable[[], object]) -> Iterator[Pulse]:
        """Renew `held` for the length of the block; call `stop` when the job is cancelled or lost."""
        pulse = Pulse(held, stop)
        key = held.job_id, held.attempt
        with self._changed:
            if not self._pulses:
                self._round_at = time.monotonic()
            self._pulses[key] = pulse
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield pulse
        finally:
            with self._changed:
                del self._pulses[key]

    def running(self) -> int:
        """Return how many attempts run here."""
        with self._changed:
            return len(self._pulses)

    def silent_seconds(self) -> float:
        """Return for how long no round of renewals has ended, while any job runs."""
        with self._changed:
            return time.monotonic() - self._round_at if self._pulses else 0.0

    def interrupt(self) -> None:
        """Let all attempts that run here stop, since the worker's time is up."""
        for pulse in self._all():
            pulse.end(Why.LEAVING)

    def look(self, job_id: UUID) -> None:
        """Renew a job's lease now, and so hear at once whether it was cancelled."""
        for pulse in self._all():
            if pulse.held.job_id == job_id:
                self._beat(pulse)

    def _all(self) -> list[Pulse]:
        with self._changed:
            return list(self._pulses.values())

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pulses)
                pulses = list(self._pulses.values())
            for pulse in pulses:
                self._beat(pulse)
            self._round_at = time.monotonic()
            pause.wait(settings.get().heartbeat_seconds)

    def _beat(self, pulse: Pulse) -> None:
        try:
            outcome = lifecycle.renew(pulse.held)
        except SQLAlchemyError as error:
            # A lease lasts several beats; a database that stays away longer loses the jobs to the sweep.
            log.warning("job %s: lease not renewed: %s", pulse.held.job_id, error)
            return
        if outcome is not Outcome.DONE:
            pulse.end(Why.STALE if outcome is Outcome.STALE else Why.CANCELLED)


heartbeat = Heartbeat()
