"""Requests in flight and the line they wait in: pure Python, no torch, no locks (the engine holds one)."""

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

    def is_late(self, now: float) -> bool:
        return self.request.deadline is not None and now >= self.request.deadline

    # A caller may cancel the future itself at any instant; then there is nobody left to tell.
    def fail(self, error: EngineError) -> None:
        with suppress(InvalidStateError):
            self.future.set_exception(error)

    def succeed(self, result: GenerationResult) -> None:
        with suppress(InvalidStateError):
            self.future.set_result(result)


class WaitingLine:
    """Higher tier rank first; first come, first served inside a rank."""

    def __init__(self) -> None:
        self._tickets: dict[str, Ticket] = {}  # in order of arrival

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._tickets

    def add(self, ticket: Ticket) -> None:
        self._tickets[ticket.request.id] = ticket

    def pop(self) -> Ticket | None:
        """The next to serve. `max` keeps the first of equals, which is the one that came first."""
        if not self._tickets:
            return None
        best = max(self._tickets.values(), key=lambda ticket: ticket.request.tier_rank)
        return self._tickets.pop(best.request.id)

    def remove(self, request_id: str) -> Ticket | None:
        return self._tickets.pop(request_id, None)

    def remove_late(self, now: float) -> list[Ticket]:
        return [self._tickets.pop(t.request.id) for t in list(self._tickets.values()) if t.is_late(now)]

    def clear(self) -> list[Ticket]:
        tickets = list(self._tickets.values())
        self._tickets.clear()
        return tickets
