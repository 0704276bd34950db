"""Ctrl-C and friends as one exception, and a wait that ends early when a child dies."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ASK_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Somebody asked this process to stop."""

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


class Waiter:
    """Waits for time to pass or a signal to come, whichever is first."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as a child has died."""
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, seconds))
        if ready:
            os.read(self._descriptor, 4_096)


@contextmanager
def listening() -> Iterator[Waiter]:
    """Raise `Stopped` in the main thread at the first request to stop; later ones are ignored.

    Whoever catches it cleans up undisturbed; the clean-up has deadlines of its own.
    """
    asked = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise Stopped(number)

    def child_died(_: int, __: FrameType | None) -> None:
        """Exists because without a handler the signal would not write to the wake-up descriptor."""

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, stop) for number in _ASK_TO_STOP}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, child_died)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield Waiter(reading)
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
