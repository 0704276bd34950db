"""Requests in flight as their callers see them: pure Python, no torch, no locks."""

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

from gpu_worker.errors import EngineError
from gpu_worker.request import GenerationRequest, GenerationResult, Progress

ProgressCallback = Callable[[Progress], None]


@dataclass(eq=False, slots=True)
class Ticket:
    """One accepted request, the future its caller holds and what has been asked of it since."""

    request: GenerationRequest
    on_progress: ProgressCallback | None = None
    future: Future[GenerationResult] = field(default_factory=Future)
    cancelled: bool = False

    # A caller may cancel the future itself at any instant; then there is nobody left to tell.
    def fail(self, error: EngineError) -> None:
        with suppress(InvalidStateError):
            self.future.set_exception(error)

    def succeed(self, result: GenerationResult) -> None:
        with suppress(InvalidStateError):
            self.future.set_result(result)
