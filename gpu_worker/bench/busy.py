"""What the engine's device did, seen from outside: busy intervals and step times."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import torch

from gpu_worker.desk import Desk
from gpu_worker.devices import Mark, Placement
from gpu_worker.meter import Meter
from gpu_worker.scheduling import Batch

Interval = tuple[float, float]


@dataclass(slots=True)
class Busy:
    """Filled while `observed` lasts. `marks`: beginning and end of every stretch of device work (encoding,
    a step, decoding); `steps`: seconds and computed rows of every step."""

    placement: Placement
    origin: Mark
    marks: list[tuple[Mark, Mark]] = field(default_factory=list)
    steps: list[tuple[float, int]] = field(default_factory=list)

    def seconds(self) -> float | None:
        """Device seconds covered by at least one stretch. None on a CPU, which has nothing to wait for.

        A gap between two kernels of one stretch counts as busy: it costs E instead.
        """
        if self.placement.device.type != "cuda":
            return None
        torch.cuda.synchronize()
        since = self.placement.seconds
        return covered([(since(self.origin, start), since(self.origin, end)) for start, end in self.marks])


@contextmanager
def observed(placement: Placement) -> Iterator[Busy]:
    """Note what every engine of this process does meanwhile."""
    busy = Busy(placement, placement.mark())
    stop, timed = Meter.stop, Desk.timed

    def noted_stop(meter: Meter, start: Mark, account: Callable[[float], None]) -> None:
        busy.marks.append((start, placement.mark()))
        stop(meter, start, account)

    def noted_timed(desk: Desk, batch: Batch, seconds: float) -> None:
        busy.steps.append((seconds, batch.padded_rows))
        timed(desk, batch, seconds)

    with patch.object(Meter, "stop", noted_stop), patch.object(Desk, "timed", noted_timed):
        yield busy


def covered(intervals: Sequence[Interval]) -> float:
    """Length of the union."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
