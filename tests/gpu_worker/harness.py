"""What the tests of the engine share."""

import io
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from PIL import Image

from gpu_worker.engine import Engine
from gpu_worker.errors import (
    EngineError,
)
from gpu_worker.pipelines import Loader, load
from gpu_worker.request import GenerationRequest, GenerationResult, ModelSource, Progress

MakeRequest = Callable[..., GenerationRequest]
WAIT = 30.0


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gate:
    """A progress callback that holds the GPU thread at the first step until the test opens it."""

    def __init__(self) -> None:
        self.seen: list[Progress] = []
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, progress: Progress) -> None:
        self.seen.append(progress)
        self.reached.set()
        assert self.open.wait(WAIT)


def pixels(future: Future[GenerationResult]) -> list[np.ndarray[Any, Any]]:
    return [
        np.asarray(Image.open(io.BytesIO(picture.png)), dtype=int) for picture in future.result(WAIT).pictures
    ]


def failure(future: Future[GenerationResult]) -> EngineError:
    error = future.exception(WAIT)
    assert isinstance(error, EngineError)
    return error


def occupy(engine: Engine, request: GenerationRequest) -> tuple[Gate, Future[GenerationResult]]:
    """A request that stands at its first step."""
    gate = Gate()
    future = engine.submit(request, gate)
    assert gate.reached.wait(WAIT)
    return gate, future


class Faults:
    """A loader whose pipelines fail in the UNet as often as told, keeping big tensors in their frames."""

    def __init__(self, error: Exception, times: int, loader: Loader = load) -> None:
        self.error = error
        self.times = times
        self.loads = 0
        self._loader = loader

    def __call__(self, source: ModelSource, dtype: torch.dtype) -> Any:
        self.loads += 1
        pipe = self._loader(source, dtype)
        pipe.unet.register_forward_pre_hook(self._fail)
        return pipe

    def _fail(self, module: Any, inputs: Any) -> None:
        if self.times:
            self.times -= 1
            raise self.error
