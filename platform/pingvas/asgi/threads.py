"""A pool of threads for work that an event loop awaits.

`ThreadPoolExecutor` makes two futures, a lock and a condition for every call; this makes one future. Under
uvloop a request through Flask costs a third less CPU so.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Task = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """At most `size` calls run at a time, the others wait in order. Threads start with the first call."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._started = False

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what `function` returns or raise what it raises; cancelled before its turn, it never runs."""
        self._start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._tasks.put((loop, future, function, arguments))
        return await future

    def close(self) -> None:
        """Let the threads end once they have done what waits."""
        if self._started:
            for _ in range(self._size):
                self._tasks.put(None)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for number in range(self._size):
                threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            loop, future, function, arguments = task
            if future.cancelled():
                continue
            result, error = None, None
            try:
                result = function(*arguments)
            except BaseException as raised:  # noqa: BLE001 (it belongs to whoever awaits the call)
                error = raised
            with suppress(RuntimeError):  # the loop is closed: nobody awaits it any more
                loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return  # cancelled in the meantime
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
