"""Enterprise time to first step on the real device: the engine saturated with free jobs, on the wall."""

import random
import threading
import time
from dataclasses import dataclass
from statistics import median

from gpu_worker.bench import queues
from gpu_worker.bench.busy import observed
from gpu_worker.bench.subject import RESULT_SECONDS, Size, Subject
from gpu_worker.bench.tables import Cell, percentile, show
from gpu_worker.engine import Engine
from gpu_worker.request import Progress

BACKLOG = 24
FREE_STEPS, ENTERPRISE_STEPS, ENTERPRISE_RANK = 20, 4, 4


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from submitting to the first step, its own prompt encoded meanwhile; the median step's."""

    seconds: list[float]
    step: float


class _Free:
    """Keeps a backlog of free jobs: each that ends is followed by another."""

    def __init__(self, subject: Subject, engine: Engine, size: Size) -> None:
        self._subject, self._engine, self._size = subject, engine, size
        self._count = 0
        self._lock = threading.Lock()
        self.over = False

    def one_more(self, _: object = None) -> None:
        with self._lock:
            self._count += 1
            name = f"free-{self._count}"
        if not self.over:
            request = queues.request(self._subject.source, name, self._size, steps=FREE_STEPS)
            self._engine.submit(request).add_done_callback(self.one_more)


def measure(subject: Subject, size: Size, arrivals: int, seed: int = 5) -> Waits:
    """Enterprise requests come at random, four steps apart in the mean."""
    chance = random.Random(seed)
    with Engine(subject.config) as engine:
        free = _Free(subject, engine, size)
        for _ in range(BACKLOG):
            free.one_more()
        engine.submit(queues.request(subject.source, "warm", size)).result(RESULT_SECONDS)
        waits = []
        with observed(subject.placement) as busy:
            for n in range(arrivals):
                known = [seconds for seconds, _ in busy.steps[-50:]] or [0.05]
                time.sleep(chance.expovariate(1 / (4 * median(known))))
                waits.append(_First(subject, engine, size, f"enterprise-{n}"))
            seconds = [one.seconds() for one in waits]
        free.over = True
        step = median(seconds for seconds, _ in busy.steps)
    # CUDA reports a step when the one before it is over, which is when it begins; others when it is over.
    own = 0.0 if subject.placement.device.type == "cuda" else step
    return Waits([max(0.0, one - own) for one in seconds], step)


class _First:
    """One request, and when its first step was reported."""

    def __init__(self, subject: Subject, engine: Engine, size: Size, name: str) -> None:
        self._reached: float | None = None
        self._start = time.perf_counter()
        request = queues.request(
            subject.source, name, size, steps=ENTERPRISE_STEPS, tier_rank=ENTERPRISE_RANK
        )
        self._future = engine.submit(request, self._note)

    def seconds(self) -> float:
        self._future.result(RESULT_SECONDS)
        assert self._reached is not None
        return self._reached - self._start

    def _note(self, progress: Progress) -> None:
        self._reached = self._reached or time.perf_counter()


def report(subject: Subject, size: Size, arrivals: int) -> None:
    waits = measure(subject, size, arrivals)
    shares = [percentile(waits.seconds, share) for share in (0.5, 0.99, 1.0)]
    rows: list[list[Cell]] = [
        ["ms", *(1000 * one for one in shares), ""],
        ["median step", *(one / waits.step for one in shares), "p99 <= 1.5"],
    ]
    title = f"Enterprise time to first step, {arrivals} arrivals, saturated by free jobs (wall)"
    show(title, ("unit", "p50", "p99", "max", "bar"), rows)
