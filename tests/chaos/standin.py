"""An engine that draws nothing to speak of, for suites that want to see what is around it."""

import io
import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from PIL import Image

from gpu_worker.errors import Cancelled, EngineStopped
from gpu_worker.request import GenerationRequest, GenerationResult, Picture, Progress


class StandIn:
    """Takes 20 to 50 ms for a request. What it says it took varies by seed, also to above the quote."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(16)
        self._running: set[str] = set()
        self._stopped = False

    def submit(self, request: GenerationRequest, on_progress: Any = None) -> "Future[GenerationResult]":
        self._running.add(request.id)
        return self._pool.submit(self._draw, request, on_progress)

    def cancel(self, request_id: str) -> bool:
        known = request_id in self._running
        self._running.discard(request_id)
        return known

    def prefetch(self, source: object) -> None:
        pass

    def stats(self) -> SimpleNamespace:
        return SimpleNamespace(device="stand-in", silent_seconds=0.0)

    def stop(self, grace: float = 0.0) -> None:
        self._stopped = True

    def _draw(self, request: GenerationRequest, on_progress: Any) -> GenerationResult:
        chance = random.Random(request.seed)
        gpu_seconds = chance.uniform(0.2, 40)
        for step in (1, 2):
            time.sleep(chance.uniform(0.01, 0.025))
            on_progress(Progress(step, 2))
            if self._stopped:
                raise EngineStopped("the engine stopped while the request ran")
            if request.id not in self._running:
                error = Cancelled("cancelled")
                error.gpu_seconds = gpu_seconds / 2
                raise error
        self._running.discard(request.id)
        pictures = tuple(_picture(request.seed_of(index)) for index in range(request.num_images))
        return GenerationResult(pictures, gpu_seconds, None)


def _picture(seed: int) -> Picture:
    image = Image.new("RGB", (16, 16), (seed % 256, seed // 256 % 256, 90))
    png, webp = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG")
    image.save(webp, "WEBP")
    return Picture(png.getvalue(), {256: webp.getvalue(), 512: webp.getvalue()}, 16, 16, seed)
