"""Who may run beside whom in a worker: jobs run together, a suspect runs alone (docs/decisions/0014)."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Closed(Exception):
    """The worker leaves: nobody comes in any more."""


class Place:
    """A task's place inside the gate; together with others until it asks to be alone."""

    def __init__(self, gate: "Gate") -> None:
        self._gate = gate
        self._apart = self._alone = False

    def alone(self, give_up: Callable[[], bool]) -> bool:
        """Wait until no other runs, and keep others out; False when `give_up` came true first.

        Whoever makes it true calls the gate's `look_again`.
        """
        gate = self._gate
        with gate._changed:
            gate._together -= 1
            gate._suspects += 1
            self._apart = True
            gate._changed.notify_all()
            gate._changed.wait_for(lambda: give_up() or (not gate._together and not gate._taken))
            if not give_up():
                self._alone = gate._taken = True
        return self._alone

    def _leave(self) -> None:
        gate = self._gate
        with gate._changed:
            if self._apart:
                gate._suspects -= 1
            else:
                gate._together -= 1
            if self._alone:
                gate._taken = False
            gate._changed.notify_all()


class Gate:
    """The gate of one worker process. Whoever has not come in has claimed no job yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = self._suspects = 0  # tasks inside: beside each other; alone, or waiting for that
        self._taken = False  # one runs alone
        self._closed = False

    @contextmanager
    def enter(self) -> Iterator[Place]:
        """Come in, as soon as nobody is alone or waits to be.

        Raises:
            Closed: the worker leaves.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._suspects)
            if self._closed:
                raise Closed
            self._together += 1
        place = Place(self)
        try:
            yield place
        finally:
            place._leave()

    def close(self) -> None:
        """Let nobody in any more; those inside stay."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def look_again(self) -> None:
        """Let those who wait to be alone ask whether to give up."""
        with self._changed:
            self._changed.notify_all()
