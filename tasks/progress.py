"""Tells listeners of steps from a thread of its own: a slow Redis must not slow the device."""

import queue
import threading
from uuid import UUID

from gpu_worker.request import Progress
from pingvas.jobs import events

BACKLOG = 1_000  # steps; beyond that listeners miss some, which the next one makes good
FLUSH_SECONDS = 2.0


class Reporter:
    """Publishes progress in the order it was told; drops it when Redis falls far behind."""

    def __init__(self) -> None:
        self._told: queue.Queue[tuple[UUID, Progress] | threading.Event] = queue.Queue(BACKLOG)
        self._started = threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, job_id: UUID, progress: Progress) -> None:
        """Note a step; returns at once."""
        self._put((job_id, progress))

    def flush(self) -> None:
        """Wait until what was told is published, for two seconds at most: the end comes after the steps."""
        reached = threading.Event()
        if self._put(reached):
            reached.wait(FLUSH_SECONDS)

    def _put(self, item: tuple[UUID, Progress] | threading.Event) -> bool:
        with self._started:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()
        try:
            self._told.put_nowait(item)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while True:
            item = self._told.get()
            if isinstance(item, threading.Event):
                item.set()
            else:
                job_id, progress = item
                events.progress(job_id, progress.step, progress.total_steps)


reporter = Reporter()
