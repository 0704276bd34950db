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
    """One running job; `stale` once its lease belongs to somebody else."""

    held: Claim
    stop: Callable[[], object]
    stale: bool = False


class Heartbeat:
    """Renews leases every `heartbeat_seconds` while any job runs."""

    def __init__(self) -> None:
        self._pulses: dict[UUID, Pulse] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep(self, held: Claim, stop: Callable[[], object]) -> Iterator[Pulse]:
        """Renew `held` for the length of the block; call `stop` when the job is cancelled or lost."""
        pulse = Pulse(held, stop)
        with self._changed:
            self._pulses[held.job_id] = pulse
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield pulse
        finally:
            with self._changed:
                self._pulses.pop(held.job_id, None)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pulses)
                pulses = list(self._pulses.values())
            self._beat(pulses)
            pause.wait(settings.get().heartbeat_seconds)

    def _beat(self, pulses: list[Pulse]) -> None:
        try:
            outcomes = lifecycle.renew([pulse.held for pulse in pulses])
        except SQLAlchemyError as error:
            # The leases last several beats; a database that stays away longer loses the jobs to the sweep.
            log.warning("leases not renewed: %s", error)
            return
        for pulse in pulses:
            outcome = outcomes[pulse.held.job_id]
            if outcome is not Outcome.DONE:
                pulse.stale = outcome is Outcome.STALE
                pulse.stop()


heartbeat = Heartbeat()
