"""The engine's face: `submit` a request, get a future. One thread owns the device.

Requests of one model and size share denoising steps (see `stepping`); which ones take the next step is
decided before each (see `scheduling`). Callers see only requests, progress and futures.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gpu_worker import devices
from gpu_worker.config import EngineConfig
from gpu_worker.desk import Desk
from gpu_worker.encoders import Encoders
from gpu_worker.errors import EngineError, EngineStopped
from gpu_worker.loop import Loop
from gpu_worker.pipelines import Loader, load
from gpu_worker.request import GenerationRequest, GenerationResult, ModelSource, check
from gpu_worker.steps import Steps
from gpu_worker.supplies import Supplies
from gpu_worker.tickets import ProgressCallback, Ticket

log = logging.getLogger(__name__)

# How long `stop` waits beyond the grace for a step or a load to end; then it gives the requests back anyway.
LAST_STEP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A moment's view: requests waiting and running, slugs of loaded models (least recently used first); and
    since the start: denoising steps, the rows asked for in them, and the requests that took part.
    `silent_seconds`: for so long the device's thread has not come to its next turn, with requests to run."""

    queued: int
    running: int
    loaded_models: tuple[str, ...]
    device: str
    steps: int
    rows: int
    served: int
    silent_seconds: float = 0.0

    @property
    def rows_per_step(self) -> float:
        return self.rows / self.steps if self.steps else 0.0

    @property
    def requests_per_step(self) -> float:
        """Above 1 when requests share steps."""
        return self.served / self.steps if self.steps else 0.0


class Engine:
    """Runs generation requests on one device. Use it as a context manager, or call `stop`.

    Every method may be called from any thread. Callbacks run on the engine's own threads and should return at
    once. `loader` and `clock` (seconds, monotonic) are there for tests and for engines with a loader of their
    own. Raises `ValueError` where the configured device does not exist.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        loader: Loader = load,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        placement = devices.choose(config)
        self._device = devices.device_name(placement.device)
        self._desk = Desk(config.scheduling, clock)
        steps = Steps(config.scheduling, config.threads, placement.device)
        self._supplies = Supplies(config, placement, loader, self._desk.tell, steps.let_go)
        self._encoders = Encoders(config.encode_workers)
        loop = Loop(config, placement, self._desk, self._supplies, steps, self._encoders)
        self._thread = threading.Thread(target=loop.serve, name="gpu", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def submit(
        self, request: GenerationRequest, on_progress: ProgressCallback | None = None
    ) -> Future[GenerationResult]:
        """Queue a request. The future ends with a result or an `EngineError`.

        It ends at once when the request is malformed or the engine is stopping. Raises `ValueError` when its
        id is already queued or running.
        """
        ticket = Ticket(request, on_progress)
        try:
            check(request)
            self._desk.add(ticket)
        except EngineError as error:
            ticket.fail(error)
        return ticket.future

    def cancel(self, request_id: str) -> bool:
        """Make a request end with `Cancelled`: at once while it is queued, else at its next step.

        False when it is unknown or already off the GPU (then its pictures come).
        """
        return self._desk.cancel(request_id)

    def prefetch(self, source: ModelSource) -> None:
        """Load a model once no request's model waits for it. One that cannot be loaded is only logged."""
        self._desk.prefetch(source)

    def pin(self, source: ModelSource) -> None:
        """Load a model when nothing else is wanted, and never unload it."""
        self._supplies.models.pin(source)

    def stats(self) -> EngineStats:
        counts = self._desk.counts()
        return EngineStats(
            queued=counts.queued,
            running=counts.running,
            loaded_models=self._supplies.loaded(),
            device=self._device,
            steps=counts.steps,
            rows=counts.rows,
            served=counts.served,
            silent_seconds=counts.silent_seconds,
        )

    def stop(self, grace: float = 0.0) -> None:
        """Take no more requests and end the thread.

        Queued requests end with `EngineStopped` at once. Those that run may finish within `grace` seconds,
        then they end with `EngineStopped` at their next step. Pictures already denoised are still delivered.
        May be called again with a shorter grace, but not from a future's callback.
        """
        self._desk.stop(grace)
        if threading.current_thread() is not self._thread:  # a progress callback may stop the engine
            self._join(grace)

    def _join(self, grace: float) -> None:
        self._thread.join(grace + LAST_STEP_SECONDS)
        for job in self._desk.all_jobs():
            log.error("request %s did not reach its next step in time; it is given back", job.request.id)
            job.ticket.fail(EngineStopped("the engine stopped while the request ran"))
        self._encoders.close()
