"""Who used the device for how long."""

from collections import deque
from collections.abc import Callable

from gpu_worker.devices import Mark, Placement


class Meter:
    """Times stretches of device work without waiting for each: the host prepares the next one meanwhile.

    At most `ahead` stretches are unfinished, so that a decision is never made many steps before it counts.
    """

    def __init__(self, placement: Placement, ahead: int = 1) -> None:
        self._placement = placement
        # Where the device works synchronously, there is nothing to be ahead of.
        self._ahead = ahead if placement.device.type == "cuda" else 0
        self._open: deque[tuple[Mark, Mark, Callable[[float], None]]] = deque()

    def start(self) -> Mark:
        return self._placement.mark()

    def stop(self, start: Mark, account: Callable[[float], None]) -> None:
        """End a stretch; `account` gets its seconds, now or when it is known."""
        self._open.append((start, self._placement.mark(), account))
        self._settle(self._ahead)

    def settle(self) -> None:
        """Wait until everything so far is accounted for."""
        self._settle(0)

    def _settle(self, left: int) -> None:
        while len(self._open) > left:
            start, end, account = self._open.popleft()
            account(self._placement.seconds(start, end))
