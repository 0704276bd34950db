"""Celery's entry point of workers on which some prompts go wrong, each on the attempt that is named."""

import os
import signal
import time
from typing import Any

from gpu_worker.errors import OutOfMemory
from gpu_worker.request import GenerationRequest, GenerationResult
from pingvas.errors import Unavailable
from tasks import app, worker
from tests.chaos.standin import StandIn

__all__ = ["app"]

BROKEN = "an error of ours"
FULL = "the device is full"
AWAY = "the store is away"
HANGS = "it hangs once"
DEAD = "the device makes no step once"
POISON = "it kills its worker"


class Misbehaving(StandIn):
    """Does what the prompt says."""

    def _draw(self, request: GenerationRequest, on_progress: Any) -> GenerationResult:
        first = request.id.endswith(":1")
        if request.prompt == BROKEN:
            raise RuntimeError(BROKEN)
        if request.prompt == FULL:
            raise OutOfMemory(FULL)
        if request.prompt == AWAY:
            raise Unavailable(AWAY)
        if request.prompt == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        while first and not self._stopped and self._goes_on(request):
            time.sleep(0.05)
        return super()._draw(request, on_progress)

    def _goes_on(self, request: GenerationRequest) -> bool:
        return request.prompt == DEAD or (request.prompt == HANGS and request.id in self._running)


worker._engine = Misbehaving()  # type: ignore[assignment]  # the methods that a worker calls
