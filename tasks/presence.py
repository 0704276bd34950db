"""A GPU worker's word that it is there, and its ear for those who want it to look at a job now."""

import os
import socket
import threading
from collections.abc import Callable, Iterable

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

    `now` returns the worker as it stands. `leave` withdraws it: it takes no more jobs. Those it still has
    can be cancelled until `stop`.
    """

    def __init__(self, now: Callable[[], Worker], heartbeat: Heartbeat) -> None:
        self._now, self._heartbeat = now, heartbeat
        self._left, self._stopped = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._announce, name="presence", daemon=True),
            threading.Thread(target=self._listen, name="wake-ups", daemon=True),
        ]

    def start(self) -> None:
        """Begin to announce and to listen."""
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Withdraw the worker, and return once that is done or Redis did not answer."""
        self._left.set()
        if self._threads[0].is_alive():
            self._threads[0].join()

    def stop(self) -> None:
        """Leave, and listen no longer."""
        self._stopped.set()
        self.leave()
        self._threads[1].join()

    def _announce(self) -> None:
        name = self._now().name
        while not self._left.is_set():
            workers.announce(self._now())
            self._left.wait(workers.ANNOUNCE_SECONDS)
        workers.withdraw(name)

    def _listen(self) -> None:
        workers.listen(self._now().name, self._heartbeat.look, self._stopped)
