"""The engine's face: `submit` a request, get a future. One thread owns the device.

This form serves one request at a time by the stock pipeline call. Callers see only requests, progress and
futures, so that a form which serves several requests per denoising step can take its place.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch

from gpu_worker import devices
from gpu_worker.config import EngineConfig
from gpu_worker.encoders import Encoders
from gpu_worker.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineError,
    EngineStopped,
    OutOfMemory,
)
from gpu_worker.outcomes import as_engine_error, caught
from gpu_worker.pipelines import Loader, ModelCache, load
from gpu_worker.request import GenerationRequest, GenerationResult, ModelSource, Progress, check
from gpu_worker.stock import Run, generate
from gpu_worker.tickets import ProgressCallback, Ticket, WaitingLine

log = logging.getLogger(__name__)

# How long `stop` waits beyond the grace for a step or a load to end; then it gives the request back anyway.
LAST_STEP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A moment's view: requests waiting and running, slugs of loaded models (least recently used first)."""

    queued: int
    running: int
    loaded_models: tuple[str, ...]
    device: str


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
        self._config = config
        self._clock = clock
        self._placement = devices.choose(config)
        self._models = ModelCache(self._placement, config.max_loaded_models, loader)
        self._wake = threading.Condition()
        # Guarded by _wake: the line, the ticket on the GPU, models to prefetch, when to stop.
        self._line = WaitingLine()
        self._running: Ticket | None = None
        self._prefetches: deque[ModelSource] = deque()
        self._stop_at: float | None = None
        self._encoders = Encoders(config.encode_workers)
        self._thread = threading.Thread(target=self._serve, name="gpu", daemon=True)
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
            self._enqueue(ticket)
        except EngineError as error:
            ticket.fail(error)
        return ticket.future

    def _enqueue(self, ticket: Ticket) -> None:
        request_id = ticket.request.id
        with self._wake:
            if self._stop_at is not None:
                raise EngineStopped("the engine is stopping")
            if request_id in self._line or self._is_running(request_id):
                raise ValueError(f"request {request_id!r} is already in flight")
            self._line.add(ticket)
            self._wake.notify()

    def cancel(self, request_id: str) -> bool:
        """Make a request end with `Cancelled`: at once while it is queued, else at its next step.

        False when it is unknown or already off the GPU (then its pictures come).
        """
        with self._wake:
            waiting = self._line.remove(request_id)
            if self._running is not None and self._is_running(request_id):
                self._running.cancelled = True
                return True
        if waiting is not None:
            waiting.fail(Cancelled("cancelled while queued"))
        return waiting is not None

    def prefetch(self, source: ModelSource) -> None:
        """Load a model as soon as no request waits. A model that cannot be loaded is only logged."""
        with self._wake:
            if self._stop_at is None:
                self._prefetches.append(source)
                self._wake.notify()

    def stats(self) -> EngineStats:
        with self._wake:
            queued, running = len(self._line), int(self._running is not None)
        return EngineStats(queued, running, self._models.slugs(), devices.device_name(self._placement.device))

    def stop(self, grace: float = 0.0) -> None:
        """Take no more requests and end the thread.

        Queued requests end with `EngineStopped` at once. The running one may finish within `grace` seconds,
        then it ends with `EngineStopped` at its next step. Pictures already denoised are still delivered. May
        be called again with a shorter grace, but not from a future's callback.
        """
        with self._wake:
            stop_at = self._clock() + grace
            self._stop_at = stop_at if self._stop_at is None else min(stop_at, self._stop_at)
            self._prefetches.clear()
            handed_back = self._line.clear()
            self._wake.notify()
        for ticket in handed_back:
            ticket.fail(EngineStopped("the engine stopped before the request began"))
        if threading.current_thread() is not self._thread:  # a progress callback may stop the engine
            self._join(grace)

    def _join(self, grace: float) -> None:
        self._thread.join(grace + LAST_STEP_SECONDS)
        with self._wake:
            stuck = self._running
        if stuck is not None:
            log.error("request %s did not reach its next step in time; it is given back", stuck.request.id)
            stuck.fail(EngineStopped("the engine stopped while the request ran"))
        self._encoders.close()

    # Below: the GPU thread.

    def _serve(self) -> None:
        if self._config.threads is not None:
            torch.set_num_threads(self._config.threads)  # holds for the calling thread
        while (work := self._next()) is not None:
            if isinstance(work, Ticket):
                self._serve_ticket(work)
            else:
                self._load_ahead(work)
        self._models.clear()

    def _next(self) -> Ticket | ModelSource | None:
        """What to do now; waits for it. None once the engine has stopped."""
        while True:
            self._end_late_tickets()
            with self._wake:
                if ticket := self._line.pop():
                    if ticket.future.set_running_or_notify_cancel():
                        self._running = ticket
                        return ticket
                elif self._stop_at is not None:
                    return None
                elif self._prefetches:
                    return self._prefetches.popleft()
                else:
                    self._wake.wait()

    def _end_late_tickets(self) -> None:
        with self._wake:
            late = self._line.remove_late(self._clock())
        for ticket in late:
            ticket.fail(DeadlineExceeded("the deadline passed while the request was queued"))

    def _load_ahead(self, source: ModelSource) -> None:
        outcome = caught(lambda: self._models.get(source))
        if isinstance(outcome, Exception):
            log.warning("prefetch of model %s failed: %s", source.slug, outcome)

    def _serve_ticket(self, ticket: Ticket) -> None:
        outcome = self._attempt(ticket)
        if isinstance(outcome, OutOfMemory):
            log.warning("request %s ran out of memory; other models make room", ticket.request.id)
            self._models.unload_others(ticket.request.model)
            outcome = self._attempt(ticket)
        with self._wake:
            self._running = None
            if ticket.cancelled and isinstance(outcome, Run):  # `cancel` promised it during decoding
                outcome = _cancelled_after(outcome.gpu_seconds)
        if isinstance(outcome, Run):
            self._encoders.deliver(ticket, outcome)
        else:
            ticket.fail(outcome)

    def _attempt(self, ticket: Ticket) -> Run | EngineError:
        """Load and run. An error comes back as a value, no tensors hanging on it: a retry finds memory."""
        outcome = caught(lambda: self._run(ticket))
        return outcome if isinstance(outcome, Run) else as_engine_error(outcome)

    def _run(self, ticket: Ticket) -> Run:
        model = self._models.get(ticket.request.model)
        self._check(ticket)
        return generate(model, ticket.request, self._placement, lambda progress: self._step(ticket, progress))

    def _step(self, ticket: Ticket, progress: Progress) -> None:
        """Between two steps: tell the caller, then see whether to go on."""
        callback = ticket.on_progress
        if callback is not None and isinstance(error := caught(lambda: callback(progress)), Exception):
            log.warning("progress callback of %s raised %r; not called again", ticket.request.id, error)
            ticket.on_progress = None
        self._end_late_tickets()
        self._check(ticket)

    def _check(self, ticket: Ticket) -> None:
        now = self._clock()
        if ticket.cancelled:
            raise Cancelled("cancelled while running")
        if ticket.is_late(now):
            raise DeadlineExceeded("the deadline passed while the request ran")
        if self._stop_at is not None and now >= self._stop_at:
            raise EngineStopped("the engine stopped while the request ran")

    def _is_running(self, request_id: str) -> bool:
        return self._running is not None and self._running.request.id == request_id


def _cancelled_after(gpu_seconds: float) -> Cancelled:
    error = Cancelled("cancelled while running")
    error.gpu_seconds = gpu_seconds
    return error
