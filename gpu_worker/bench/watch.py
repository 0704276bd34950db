"""Clocks: what a stretch of work cost, by the clock that means something on the device.

On a CUDA device that is the wall, with the device's queue run dry at both ends. On a CPU it is the time the
processor spent, by process and by the thread that owns the device: other processes may hold the processor at
any instant, and the wall would measure them.
"""

import threading
import time
from dataclasses import dataclass

import torch

from gpu_worker.devices import Placement

DEVICE_THREAD = "gpu"


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds: on the wall; of the processor in all threads; of it in the thread that owns the device."""

    wall: float
    process: float
    device_thread: float


class Watch:
    """Runs from its making on. `own_thread`: this thread does the work, not an engine's."""

    def __init__(self, placement: Placement, own_thread: bool = False) -> None:
        self._cuda = placement.device.type == "cuda"
        self._clock = None if own_thread else _clock_of(DEVICE_THREAD)
        self._start = self._read()

    def spent(self) -> Spent:
        now = self._read()
        return Spent(*(after - before for before, after in zip(self._start, now, strict=True)))

    def seconds(self) -> float:
        """By the device's clock; of a CPU the time of all threads."""
        spent = self.spent()
        return spent.wall if self._cuda else spent.process

    def _read(self) -> tuple[float, float, float]:
        if self._cuda:
            torch.cuda.synchronize()
        thread = time.thread_time() if self._clock is None else time.clock_gettime(self._clock)
        return time.perf_counter(), time.process_time(), thread


def _clock_of(name: str) -> int | None:
    """The processor clock of the thread called so; None without such a thread, or such clocks."""
    ids = [one.ident for one in threading.enumerate() if one.name == name and one.ident is not None]
    return time.pthread_getcpuclockid(ids[0]) if ids and hasattr(time, "pthread_getcpuclockid") else None
