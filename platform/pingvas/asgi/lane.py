"""A thread that serves many requests of one kind at once, joining what they ask of database and Redis.

A thread for each request sleeps and wakes for each round trip, which costs more processor time than the
round trip. Here the requests are greenlets on one thread: each runs up to its next question, and
questions of one kind are asked in one round trip. Those furthest behind are answered first, so that the
others catch up with them: the more ask together, the less each costs (decision 24).
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pingvas.together import Rider, Together

T = TypeVar("T")

MOST_AT_ONCE = 64

PATIENCE = 0.01
"""Seconds that a question waits at most for those who are behind, about what three durable commits take."""

_Future = asyncio.Future[Any]


@dataclass(slots=True)
class _Group:
    """Requests that ask the same, from the oldest on."""

    since: float = field(default_factory=time.monotonic)
    riders: list[tuple[Rider, _Future, Any]] = field(default_factory=list)

    def behind(self) -> int:
        """Return how many questions the one of them has asked that has asked the fewest."""
        return min(rider.asked for rider, _, _ in self.riders)


class Lane:
    """One thread of requests. What runs on it waits for nothing but the answers of `Together`."""

    def __init__(self, name: str, patience: float = PATIENCE) -> None:
        self._arriving: queue.SimpleQueue[tuple[Callable[[], Any], _Future] | None] = queue.SimpleQueue()
        self._asking: dict[Together[Any, Any], _Group] = {}  # from the oldest on
        self._patience = patience
        self._ended: list[tuple[_Future, Any]] = []
        self._open = True
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Run `work` on the lane; called on an event loop, where the result is awaited."""
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._arriving.put((work, result))
        return result

    def close(self) -> None:
        """Take no more; those under way are finished."""
        self._arriving.put(None)

    def _run(self) -> None:
        while self._open or self._asking:
            for work, result in self._arrivals():
                self._go_on(Rider(work), result)
            if self._asking:
                self._ask(self._next())
            if self._ended:
                _deliver(self._ended)
                self._ended = []

    def _arrivals(self) -> Iterator[tuple[Callable[[], Any], _Future]]:
        """Yield who has come; where nobody is under way, wait for the first."""
        for number in range(MOST_AT_ONCE):
            try:
                arrived = self._arriving.get(block=self._open and not (number or self._asking))
            except queue.Empty:
                return
            if arrived is None:
                self._open = False
                return
            yield arrived

    def _next(self) -> Together[Any, Any]:
        """Return what is asked next: by who is furthest behind, unless others have waited for too long."""
        asked, group = next(iter(self._asking.items()))
        if time.monotonic() - group.since >= self._patience:
            return asked
        return min(self._asking, key=lambda each: self._asking[each].behind())

    def _ask(self, asked: Together[Any, Any]) -> None:
        riders = self._asking.pop(asked).riders
        answers = asked.answer([question for _, _, question in riders])
        for (rider, result, _), answer in zip(riders, answers, strict=True):
            self._go_on(rider, result, answer)

    def _go_on(self, rider: Rider, result: _Future, *answer: Any) -> None:
        """Let a request run until it asks or ends. The first time it takes no answer."""
        try:
            if answer and isinstance(answer[0], Exception):
                said = rider.throw(answer[0])
            else:
                said = rider.switch(*answer)
        except Exception as error:  # noqa: BLE001 (it is raised again where the result is awaited)
            said = error
        if rider.dead:
            self._ended.append((result, said))
        else:
            asked, question = said
            rider.asked += 1
            self._asking.setdefault(asked, _Group()).riders.append((rider, result, question))


def _deliver(ended: list[tuple[_Future, Any]]) -> None:
    def deliver() -> None:
        for result, outcome in ended:
            if result.done():  # nobody waits for it any more
                continue
            if isinstance(outcome, Exception):
                result.set_exception(outcome)
            else:
                result.set_result(outcome)

    with suppress(RuntimeError):  # the loop is closed: the server has stopped
        ended[0][0].get_loop().call_soon_threadsafe(deliver)
