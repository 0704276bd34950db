"""One thread a process renews the leases of the jobs it runs, and hears who must stop."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from pingvas import settings
from pingvas.jobs import lifecycle
from pingvas.jobs.lifecycle import Claim, Outcome

log = logging.getLogger(__name__)


@dataclass
class Pulse:
    """One attempt that runs here; `stale` once the job belongs to another attempt."""

    held: Claim
    stop: Callable[[], object]
    stale: bool = False


class Heartbeat:
    """Renews leases every `heartbeat_seconds` while any job runs.

    A pulse is an attempt's, not a job's: after a lost lease this process may well run the next attempt
    before the old one has stopped.
    """

    def __init__(self) -> None:
        self._pulses: dict[tuple[UUID, int], Pulse] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep(self, held: Claim, stop: Callable[[], object]) -> Iterator[Pulse]:
        """Renew `held` for the length of the block; call `stop` when the job is cancelled or lost."""
        pulse = Pulse(held, stop)
        key = held.job_id, held.attempt
        with self._changed:
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

    def look(self, job_id: UUID) -> None:
        """Renew a job's lease now, and so hear at once whether it was cancelled."""
        with self._changed:
            pulses = [pulse for pulse in self._pulses.values() if pulse.held.job_id == job_id]
        for pulse in pulses:
            self._beat(pulse)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pulses)
                pulses = list(self._pulses.values())
            for pulse in pulses:
                self._beat(pulse)
            pause.wait(settings.get().heartbeat_seconds)

    def _beat(self, pulse: Pulse) -> None:
        try:
            outcome = lifecycle.renew(pulse.held)
        except SQLAlchemyError as error:
            # A lease lasts several beats; a database that stays away longer loses the jobs to the sweep.
            log.warning("job %s: lease not renewed: %s", pulse.held.job_id, error)
            return
        if outcome is not Outcome.DONE:
            pulse.stale = outcome is Outcome.STALE
            pulse.stop()


heartbeat = Heartbeat()
