"""A thread that tells of new jobs: who submits waits for no broker, and many cost little more than one."""

import atexit
import queue
import threading
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pingvas.jobs import events
from pingvas.jobs.dispatch.bell import Bell
from pingvas.jobs.dispatch.broker import ring

_MOST_AT_ONCE: Final = 100
_FLUSH_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _New:
    """A new job, its steps, and the bell to ring for it, if it has a place on the broker."""

    job_id: UUID
    steps: int
    bell: Bell | None


class _Ringer:
    def __init__(self) -> None:
        self._told: queue.SimpleQueue[_New | threading.Event] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, item: _New | threading.Event) -> None:
        self._told.put(item)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                    self._thread.start()

    def flush(self) -> None:
        if self._thread is not None:
            done = threading.Event()
            self.tell(done)
            done.wait(_FLUSH_SECONDS)

    def _run(self) -> None:
        while True:
            items = [self._told.get()]
            while len(items) < _MOST_AT_ONCE and not self._told.empty():
                items.append(self._told.get())
            _announce([item for item in items if isinstance(item, _New)])
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()


def _announce(jobs: list[_New]) -> None:
    """Listeners first: what the worker tells of a job it was rung for comes after."""
    if jobs:
        events.begun((job.job_id, job.steps) for job in jobs)
    if bells := [job.bell for job in jobs if job.bell is not None]:
        ring(*bells)


_ringer = _Ringer()


def announce(job_id: UUID, steps: int, bell: Bell | None) -> None:
    """Tell listeners and, where there is a bell, workers of a new job, from the thread.

    A bell that dies with the process is rung by the sweep; the event is then told from the row.
    """
    _ringer.tell(_New(job_id, steps, bell))


def flush() -> None:
    """Wait until what `announce` was told is out, two seconds at most."""
    _ringer.flush()


atexit.register(flush)
