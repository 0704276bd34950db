"""A thread that rings for new jobs: who submits waits for no broker, and many cost little more than one."""

import atexit
import queue
import threading
from collections.abc import Sequence
from typing import Final

from pingvas.jobs.dispatch.bell import Bell
from pingvas.jobs.dispatch.broker import ring
from pingvas.together import Together

_MOST_AT_ONCE: Final = 100
_FLUSH_SECONDS: Final = 2.0


class _Ringer:
    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Sequence[Bell] | threading.Event] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, bells: Sequence[Bell] | threading.Event) -> None:
        self._told.put(bells)
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
            told = self._told.get()
            bells: list[Bell] = []
            while not isinstance(told, threading.Event):
                bells += told
                if len(bells) >= _MOST_AT_ONCE or self._told.empty():
                    break
                told = self._told.get()
            if bells:
                ring(*bells)
            if isinstance(told, threading.Event):
                told.set()


_ringer = _Ringer()


def _tell(bells: Sequence[Bell]) -> Sequence[None]:
    _ringer.tell(bells)
    return [None] * len(bells)


_announce: Together[Bell, None] = Together(_tell)


def announce(bell: Bell) -> None:
    """Ring for a new job from the thread. A bell that dies with the process is rung by the sweep."""
    _announce(bell)


def flush() -> None:
    """Wait until what `announce` was told is out, two seconds at most."""
    _ringer.flush()


atexit.register(flush)
