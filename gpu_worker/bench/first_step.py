"""How long an enterprise request waits for its first step while free jobs saturate the device.

Measured from its arrival, at a random instant, to the beginning of the first step that it is in; the unit is
the step in force: the one that runs when it arrives, or else the one that follows (it arrived while a picture
was decoded or a prompt encoded). Its own prompt is encoded meanwhile. 40 free jobs of three models always
wait, so that the load is 100 %; the enterprise requests, for a model of their own, take about half of the
steps.
"""

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from gpu_worker.bench import queues
from gpu_worker.bench.clockwork import Clockwork, Costs, Step
from gpu_worker.bench.tables import Cell, percentile, show
from gpu_worker.request import ModelSource
from gpu_worker.scheduling import SchedulingConfig
from gpu_worker.tickets import Ticket

FREE, ENTERPRISE = 0, 4
BACKLOG = 40
GAP_SECONDS = 0.3  # between enterprise arrivals, in the mean


@dataclass(frozen=True, slots=True)
class Waits:
    """Per arrival: the time to its first step in units of the step in force and of the median step, and the
    steps begun from then to its own, its own among them."""

    in_force: list[float]
    of_median: list[float]
    ticks: list[int]


class Saturation:
    """Free jobs that are never fewer than the backlog, and enterprise requests at random instants."""

    def __init__(self, arrivals: int, seed: int) -> None:
        self._chance = random.Random(seed)
        self._left = arrivals
        self._next = self._chance.expovariate(1 / GAP_SECONDS)
        self._free = self._finished = 0
        self._waiting: set[str] = set()
        self.arrived: dict[str, float] = {}

    def arrive(self, now: float) -> list[Ticket]:
        missing = BACKLOG - (self._free - self._finished)
        tickets = [self._free_job() for _ in range(missing)]
        while self._left and self._next <= now:
            self._left -= 1
            name = f"enterprise-{self._left}"
            self.arrived[name] = self._next
            self._waiting.add(name)
            tickets.append(self._ticket(name, "e", self._chance.randint(4, 12), ENTERPRISE))
            self._next += self._chance.expovariate(1 / GAP_SECONDS)
        return tickets

    def finished(self, name: str) -> None:
        self._finished += name.startswith("free")

    def over(self, step: Step) -> bool:
        self._waiting.difference_update(step.ids)
        return not self._left and not self._waiting

    def _free_job(self) -> Ticket:
        self._free += 1
        return self._ticket(
            f"free-{self._free}", self._chance.choice("abc"), self._chance.randint(4, 30), FREE
        )

    def _ticket(self, name: str, model: str, steps: int, rank: int) -> Ticket:
        source = ModelSource(model, model, "sd15")
        guidance = self._chance.choice((1.0, 5.0, 5.0))
        return Ticket(
            queues.request(source, name, (512, 512), steps=steps, guidance=guidance, tier_rank=rank),
            lambda progress: None,
        )


def simulate(arrivals: int, costs: Costs, seed: int = 11) -> Waits:
    """The engine's loop over simulated time, until the last enterprise request has had its first step."""
    traffic = Saturation(arrivals, seed)
    made = Clockwork(traffic, costs, SchedulingConfig()).run()
    return waits(made, traffic.arrived)


def waits(made: Sequence[Step], arrived: Mapping[str, float]) -> Waits:
    """From all steps, in order, and the instants of arrival."""
    first: dict[str, int] = {}
    for number, step in enumerate(made):
        for name in step.ids:
            first.setdefault(name, number)
    begins = [step.begin for step in made]
    middle = median(step.seconds for step in made)
    found = Waits([], [], [])
    for name, instant in arrived.items():
        last = bisect_right(begins, instant) - 1
        is_running = last >= 0 and instant < made[last].begin + made[last].seconds
        wait = made[first[name]].begin - instant
        found.in_force.append(wait / made[last if is_running else last + 1].seconds)
        found.of_median.append(wait / middle)
        found.ticks.append(first[name] - last)
    return found


def report(arrivals: int) -> None:
    rows: list[list[Cell]] = []
    for title, costs in (
        ("the schedule alone", Costs(encode=0.0, decode=0.0)),
        ("with prompts and pictures", Costs()),
        ("the same, 7 ms a prompt", Costs(encode=0.007)),
    ):
        found = simulate(arrivals, costs)
        for unit, values in (
            ("step in force", found.in_force),
            ("median step", found.of_median),
            ("steps begun", found.ticks),
        ):
            rows.append([title, unit, *(percentile(values, share) for share in (0.5, 0.99, 1.0))])
    show(
        f"Enterprise time to first step, {arrivals} arrivals, 100 % load (simulated clock; bar: p99 <= 1.5)",
        ("the engine's loop", "unit", "p50", "p99", "max"),
        rows,
    )
