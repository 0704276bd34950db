"""Values that a process reads anew only every so often: what everybody asks for and few ever change."""

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_all: "WeakSet[Cached[Any]]" = WeakSet()


class Cached(Generic[T]):
    """What `read` returned at most `seconds` ago.

    One thread reads at a time; the others take what is known meanwhile, and wait only for the very first
    value. An error of `read` reaches who asked, and the next one tries again.
    """

    def __init__(self, read: Callable[[], T], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._known: tuple[T] | None = None
        self._until = 0.0
        self._reading = threading.Lock()
        _all.add(self)

    def get(self) -> T:
        """Return the value."""
        known = self._known
        if known is not None and time.monotonic() < self._until:
            return known[0]
        if known is not None and not self._reading.acquire(blocking=False):
            return known[0]
        if known is None:
            self._reading.acquire()
        try:
            if self._known is None or time.monotonic() >= self._until:
                self._known = (self._read(),)
                self._until = time.monotonic() + self._seconds
            return self._known[0]
        finally:
            self._reading.release()

    def forget(self) -> None:
        """Let the next call read."""
        self._known = None


def forget_all() -> None:
    """Forget every value of this process: its settings or its database have changed."""
    for each in _all:
        each.forget()
