"""A thread that rings for whoever must not wait. Many bells at once cost little more than one."""

import atexit
import queue
import threading
from typing import Final

from pingvas.jobs.dispatch.bell import Bell
from pingvas.jobs.dispatch.broker import ring

_MOST_AT_ONCE: Final = 100
_FLUSH_SECONDS: Final = 2.0


class _Ringer:
    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Bell | threading.Event] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, item: Bell | threading.Event) -> None:
        self._told.put(item)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                    self._thread.start()

    def flush(self) -> None:
        if self._thread is not None:
            rung = threading.Event()
            self.tell(rung)
            rung.wait(_FLUSH_SECONDS)

    def _run(self) -> None:
        while True:
            items = [self._told.get()]
            while len(items) < _MOST_AT_ONCE and not self._told.empty():
                items.append(self._told.get())
            bells = [item for item in items if isinstance(item, Bell)]
            if bells:
                ring(*bells)
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()


_ringer = _Ringer()


def ring_soon(bell: Bell) -> None:
    """Ring from the thread; a bell that dies with the process is rung by the sweep."""
    _ringer.tell(bell)


def flush() -> None:
    """Wait until what `ring_soon` was told is rung, two seconds at most."""
    _ringer.flush()


atexit.register(flush)
