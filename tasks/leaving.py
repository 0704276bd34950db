"""How a worker process ends: it takes nothing new, and what runs gets some time.

Asking again makes it faster: the second time running jobs go back to their queue at their next step, the
third time the process ends as it is, and their leases run out.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from celery.worker import state

from tasks.gate import Gate
from tasks.heartbeat import Heartbeat
from tasks.presence import Presence

if TYPE_CHECKING:
    from gpu_worker.engine import Engine

log = logging.getLogger(__name__)


class Leaving:
    """The end of one worker process. `engine` returns what runs its jobs, if it has started."""

    def __init__(
        self, gate: Gate, heartbeat: Heartbeat, presence: Presence, engine: Callable[[], "Engine | None"]
    ) -> None:
        self._gate, self._heartbeat, self._presence, self._engine = gate, heartbeat, presence, engine
        self._changed = threading.Condition()
        self._until = math.inf  # by the monotonic clock
        self._asked = 0
        self._thread: threading.Thread | None = None

    def begun(self) -> bool:
        """Whether the worker takes no more jobs."""
        return self._thread is not None

    def ask(self, grace: float) -> None:
        """End, with `grace` seconds for the jobs that run; asked again, with none; a third time, at once."""
        with self._changed:
            self._asked += 1
            if self._asked > 2:
                log.critical("asked for the third time: jobs that run here are lost with this worker")
                os._exit(1)
            self._begin(grace if self._asked == 1 else 0.0)
        self._tell(grace if self._asked == 1 else 0.0)

    def drain(self) -> None:
        """End once the jobs that run have ended, however long they may."""
        with self._changed:
            self._begin(math.inf)
        self._tell(math.inf)
        _stop_taking(os.EX_OK)

    def end(self, grace: float, status: int) -> None:
        """End with `grace` seconds for the jobs that run, and this exit status."""
        with self._changed:
            self._begin(grace)
        self._tell(grace)
        _stop_taking(status)

    def _begin(self, grace: float) -> None:
        self._until = min(self._until, time.monotonic() + grace)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="leaving", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _tell(self, grace: float) -> None:
        running = self._heartbeat.running()
        if not running:
            log.warning("no job runs here: this worker ends")
        elif grace == math.inf:
            log.warning("this worker takes no more jobs, and ends with the last of %s that run", running)
        elif grace > 0:
            text = (
                "waiting up to %.0f s for %s running jobs; asked again (Ctrl-C), they go back to their queue"
            )
            log.warning(text, grace, running)
        else:
            log.warning("%s running jobs go back to their queue at their next step", running)

    def _run(self) -> None:
        self._gate.close()
        self._presence.leave()
        with self._changed:
            while (left := self._until - time.monotonic()) > 0:
                self._changed.wait(None if left == math.inf else left)
        self._heartbeat.interrupt()
        engine = self._engine()
        if engine is not None:
            engine.stop()  # gives back those whose step does not end either


def _stop_taking(status: int) -> None:
    """Let Celery end with this status once its tasks have: what its own handler of SIGTERM does."""
    state.should_stop = status  # type: ignore[assignment]  # declared as None, which it is at first
