"""How much of the bare denoiser's speed the engine delivers, and how much faster it is than the stock call.

E = the time that the bare denoiser would need for the queue's useful rows ÷ the time the queue took. Useful
rows are steps x pictures x guidance rows of delivered pictures; the bare denoiser is measured per size at
every batch size, in the same process, and its best counts. Text encoders, VAE, PNGs and thumbnails count as
loss. Bare, engine and stock take turns, forwards and then backwards (A-B-C-C-B-A), so that a drift of the
machine hits all three.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from gpu_worker.bench.busy import Busy, observed
from gpu_worker.bench.subject import Size, Subject, size_of
from gpu_worker.bench.tables import show, spread
from gpu_worker.bench.watch import Spent
from gpu_worker.engine import Engine
from gpu_worker.request import GenerationRequest

TURNS = 3


@dataclass(slots=True)
class Half:
    """One pass A-B-C: best bare rows per second by size and the batch size it took, and the two runs."""

    best: dict[Size, tuple[float, int]] = field(default_factory=dict)
    engine: Spent | None = None
    stock: Spent | None = None
    idle: float | None = None


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Each list has one value per pass. `engine` and `stock` are shares of the bare denoiser's speed by the
    device's clock, `thread` the engine's by the processor time of the thread that owns the device; `speedup`
    is stock's time ÷ the engine's, `pictures` the engine's per second, `idle` the device's idle share."""

    best: dict[Size, tuple[float, int]]
    engine: list[float]
    thread: list[float]
    stock: list[float]
    speedup: list[float]
    pictures: list[float]
    idle: list[float]
    requests_per_step: float


def measure(
    subject: Subject, queue: Sequence[GenerationRequest], *, rounds: int, bare_seconds: float
) -> Efficiency:
    """`rounds` times A-B-C-C-B-A; `bare_seconds` for each size and batch size of the bare denoiser."""
    samples = {size_of(request): request for request in queue}
    halves = [Half() for _ in range(2 * rounds)]
    with Engine(subject.config) as engine:
        subject.run_engine(engine, queue[::2], "warm")  # models load, step times are learned
        subject.run_stock(queue[:2])
        for number, half in enumerate(halves):
            parts = "abc" if number % 2 == 0 else "cba"
            for part in parts:
                if part == "a":
                    half.best = {s: _best(subject, r, bare_seconds) for s, r in samples.items()}
                elif part == "b":
                    with observed(subject.placement) as busy:
                        half.engine = subject.run_engine(engine, queue, f"{number}")
                    half.idle = _idle(busy, half.engine)
                else:
                    half.stock = subject.run_stock(queue)
        shared = engine.stats().requests_per_step
    return _evaluate(subject, queue, halves, shared)


def _best(subject: Subject, request: GenerationRequest, seconds: float) -> tuple[float, int]:
    """The sizes take turns, the median of each counts: the best of single samples would be the luckiest."""
    rates: dict[int, list[float]] = {rows: [] for rows in subject.config.scheduling.buckets}
    for _ in range(TURNS):
        for rows, found in rates.items():
            found.append(subject.bare_rate(request, rows, seconds / TURNS))
    return max((median(found), rows) for rows, found in rates.items())


def _idle(busy: Busy, spent: Spent) -> float | None:
    seconds = busy.seconds()
    return None if seconds is None else 1 - seconds / spent.wall


def _evaluate(
    subject: Subject, queue: Sequence[GenerationRequest], halves: Sequence[Half], shared: float
) -> Efficiency:
    on_wall = subject.placement.device.type == "cuda"
    result = Efficiency({}, [], [], [], [], [], [], shared)
    for half in halves:
        assert half.engine is not None
        assert half.stock is not None
        ideal = sum(subject.rows(request) / half.best[size_of(request)][0] for request in queue)
        engine, stock = (one.wall if on_wall else one.process for one in (half.engine, half.stock))
        result.engine.append(ideal / engine)
        result.thread.append(ideal / half.engine.device_thread)
        result.stock.append(ideal / stock)
        result.speedup.append(stock / engine)
        result.pictures.append(sum(request.num_images for request in queue) / engine)
        if half.idle is not None:
            result.idle.append(half.idle)
    for size in halves[0].best:
        rates = [half.best[size] for half in halves]
        result.best[size] = median(rate for rate, _ in rates), max(rows for _, rows in rates)
    return result


def report(title: str, subject: Subject, found: Efficiency, bars: tuple[str, str, str]) -> None:
    """`bars`: for E, for idle, and for the speed against stock."""
    by_wall = subject.placement.device.type == "cuda"
    clock = "the wall" if by_wall else "processor time, one thread"
    rows: list[tuple[str, str, str]] = [
        (f"bare denoiser {size[0]}x{size[1]}, best at {rows} rows", f"{rate:.1f} rows/s", "")
        for size, (rate, rows) in found.best.items()
    ]
    rows.append(("E, engine, to the last thumbnail", spread(found.engine), bars[0]))
    if not by_wall:
        rows.append(("E, engine, the device's thread alone", spread(found.thread), bars[0]))
    rows.append(("E, stock `pipe()` one by one", spread(found.stock), ""))
    rows.append(("engine ÷ stock", spread(found.speedup, "x"), bars[2]))
    rows.append(("engine, pictures/s", spread(found.pictures), ""))
    rows.append(("requests per step", f"{found.requests_per_step:.2f}", ""))
    if found.idle:
        rows.append(("idle", spread([100 * idle for idle in found.idle], " %"), bars[1]))
    show(f"{title} ({clock})", ("", "median (range)", "bar"), rows)
