"""A thread that rings for new jobs: who submits waits for no broker, and many cost little more than one."""

import atexit
import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Final

from pingvas import db
from pingvas.jobs.dispatch.bell import Bell
from pingvas.jobs.dispatch.broker import ring
from pingvas.together import Together

log = logging.getLogger(__name__)

_MOST_AT_ONCE: Final = 100
_MOST_KEPT: Final = 10_000  # while the broker is away; the sweep rings for the others
_AGAIN_SECONDS: Final = 1.0
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
        bells: list[Bell] = []
        while True:
            flushes = self._take(bells)
            while bells and _done(bells[:_MOST_AT_ONCE]):
                del bells[:_MOST_AT_ONCE]
            for flushed in flushes:
                flushed.set()
            if bells:  # broker or database are away
                del bells[_MOST_KEPT:]
                time.sleep(_AGAIN_SECONDS)

    def _take(self, bells: list[Bell]) -> list[threading.Event]:
        """Add to `bells` what was told, and wait for it where there are none; return who waits for them."""
        flushes: list[threading.Event] = []
        while not (bells or flushes) or not self._told.empty():
            told = self._told.get()
            if isinstance(told, threading.Event):
                flushes.append(told)
            else:
                bells += told
        return flushes


def _done(bells: Sequence[Bell]) -> bool:
    """Ring; say whether no more is to be done, since the bells are out or only the sweep can help."""
    try:
        return ring(*bells)
    except db.PASSING as error:  # a model's queue is looked up in the catalogue
        log.warning("%s jobs wait for their bell: %s", len(bells), error)
        return False
    except Exception:
        log.exception("%s jobs wait for the sweep", len(bells))
        return True


_ringer = _Ringer()


def _tell(bells: Sequence[Bell]) -> Sequence[None]:
    _ringer.tell(bells)
    return [None] * len(bells)


_announce: Together[Bell, None] = Together(_tell)


def announce(bell: Bell) -> None:
    """Ring for a new job from the thread, which tries again while the broker is away.

    A bell that dies with the process is rung by the sweep.
    """
    _announce(bell)


def flush() -> None:
    """Wait until the thread has rung for what `announce` was told, or failed to; two seconds at most."""
    _ringer.flush()


atexit.register(flush)
