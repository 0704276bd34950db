"""A GPU worker's word that it is there, and its ear for those who want it to look at a job now."""

import os
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from pingvas import workers
from pingvas.jobs import routing
from pingvas.workers import Worker
from tasks.heartbeat import Heartbeat


def describe(name: str, queues: Iterable[str], slots: int) -> Worker:
    """Return what a worker that listens to `queues` says of itself, before its engine has started."""
    own = [queue for queue in queues if routing.tier_of(queue)]
    return Worker(
        name=name,
        tiers=frozenset(str(routing.tier_of(queue)) for queue in own),
        families=routing.families_of(own),
        slots=slots,
        host=socket.gethostname(),
        pid=os.getpid(),
        queues=tuple(own),
    )


class Presence:
    """Announces a worker every few seconds and lets its heartbeat look at a job when somebody asks for it.

    `now` returns the worker as it stands. `drain` is called when operators want it to leave. From `leave` on
    it says that it takes no more jobs; those it still has can be cancelled until `stop`.
    """

    def __init__(
        self, now: Callable[[], Worker], heartbeat: Heartbeat, drain: Callable[[], object] = lambda: None
    ) -> None:
        self._now, self._heartbeat, self._drain = now, heartbeat, drain
        self._left, self._stopped = threading.Event(), threading.Event()
        self._changed, self._told = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._announce, name="presence", daemon=True),
            threading.Thread(target=self._listen, name="wake-ups", daemon=True),
        ]

    def start(self) -> None:
        """Begin to announce and to listen."""
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Say that the worker takes no more jobs; return once that is said or Redis did not answer."""
        self._left.set()
        self._changed.set()
        if self._threads[0].is_alive():
            self._told.wait()

    def stop(self) -> None:
        """Withdraw the worker, and listen no longer."""
        self._left.set()
        self._stopped.set()
        self._changed.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _announce(self) -> None:
        name = self._now().name
        while not self._stopped.is_set():
            self._changed.clear()
            leaving = self._left.is_set()
            workers.announce(replace(self._now(), draining=leaving))
            if leaving:
                self._told.set()
            elif workers.asked_to_drain(name):
                self._drain()
            self._changed.wait(workers.ANNOUNCE_SECONDS)
        self._told.set()
        workers.withdraw(name)

    def _listen(self) -> None:
        workers.listen(self._now().name, self._heartbeat.look, self._stopped)
