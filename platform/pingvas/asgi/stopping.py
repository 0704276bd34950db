"""Hearing that the server is about to stop while it still serves.

ASGI tells an application of the shutdown only when the last connection is closed, and a stream closes
only when it is told: without this a server with one listener would never stop.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def when_told_to_stop(call: Callable[[], None]) -> Iterator[None]:
    """Have `call` run on the loop at SIGTERM or SIGINT, beside whatever the server does then."""
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return
    previous = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(call)
        earlier = previous[signal.Signals(number)]
        if callable(earlier):
            earlier(number, frame)

    ours = [number for number, earlier in previous.items() if callable(earlier)]  # else nobody else listens
    for number in ours:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, previous[number])
