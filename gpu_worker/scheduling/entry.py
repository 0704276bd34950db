"""What is scheduled, and by which numbers."""

from bisect import bisect_left
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulingConfig:
    """The numbers of the policy. Raises `ValueError` for one that cannot work.

    max_rows: most rows (pictures x guidance rows) of one step, whatever the memory; see `set_row_limit`.
    buckets: the batch sizes the caller pads to, rising. Empty: no padding.
    step_budget_seconds: a step is made no longer than this by adding requests (one request may take longer).
    lift_time_cap_when_alone: ignore that budget while every waiting request has the same key. Off, because
        past the knee a larger batch gains no throughput, and a payer who arrives meanwhile waits for it.
    rider_slack: requests of a lower tier fill up a higher tier's step while it takes at most this many times
        as long as without them.
    ageing_steps: of so many steps a tier gets one in any case, the longest waiting first, and at most one of
        so many goes to ageing. It is put off by up to as many again while a request of the highest tier waits
        for its first step. At least 2: an aged step is always followed by one in the usual order.
    ageing_load_steps: after so many steps without service `wanted` moves a lower tier's model up.
    look_past: how many younger requests of its tier may start before a request that could run.
    max_active: most started requests of one tier on loaded models. Each holds its latents and embeddings.
    trim_rank: a request of at most this rank may sit out a step that would otherwise be mostly padding. Its
        picture comes no later for it, but its first step does; so only the free tier by default.
    """

    max_rows: int = 16
    buckets: tuple[int, ...] = (1, 2, 4, 6, 8, 12, 16)
    step_budget_seconds: float = 0.25
    lift_time_cap_when_alone: bool = False
    rider_slack: float = 1.25
    ageing_steps: int = 8
    ageing_load_steps: int = 200
    look_past: int = 8
    max_active: int = 32
    trim_rank: int = 0

    def __post_init__(self) -> None:
        for name in ("max_rows", "ageing_load_steps", "look_past", "max_active"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.ageing_steps < 2:
            raise ValueError("ageing_steps must be at least 2")
        if self.step_budget_seconds <= 0 or self.rider_slack < 1:
            raise ValueError("step_budget_seconds must be above 0 and rider_slack at least 1")
        if list(self.buckets) != sorted(set(self.buckets)) or (self.buckets and self.buckets[0] < 1):
            raise ValueError("buckets must rise and start at 1 or more")

    def padded(self, rows: int) -> int:
        """The rows a step of `rows` computes: the next bucket, or `rows` beyond the largest."""
        index = bisect_left(self.buckets, rows)
        return self.buckets[index] if index < len(self.buckets) else rows

    def sizes(self, above: int, up_to: int) -> list[int]:
        """Batch sizes worth considering between the two, rising."""
        known = self.buckets or range(above + 1, up_to + 1)
        return [size for size in known if above < size <= up_to]


@dataclass(slots=True, eq=False)
class Entry:
    """One request on its way through the steps.

    Requests of one `key` can share a step; `model` is what must be on the device for it. `rank` is the tier,
    higher first. `rows` is what it adds to a step's batch. `arrived` and `deadline` are seconds of the
    caller's monotonic clock.

    The scheduler alone writes the fields below `deadline`. `started`: it has been in a step. `gpu_seconds`:
    its share of the steps it was in. `passed`: younger requests of its tier that started before it.
    `number`: the order of adding, which decides between equal arrivals.
    """

    id: str
    key: Hashable
    model: Hashable
    rank: int
    rows: int
    steps_left: int
    arrived: float
    deadline: float | None = None
    cancelled: bool = False
    started: bool = False
    gpu_seconds: float = 0.0
    passed: int = 0
    number: int = 0

    @property
    def age_order(self) -> tuple[float, int]:
        return self.arrived, self.number

    def is_due(self, now: float) -> bool:
        """Cancelled, or past its deadline."""
        return self.cancelled or (self.deadline is not None and now >= self.deadline)


@dataclass(frozen=True, slots=True)
class Batch:
    """The next step: `entries` (at least one, the first is why this step runs), all of one `key`.

    `rows` is their sum; the caller pads to `padded_rows`. `aged`: a lower tier's turn by ageing.
    """

    key: Hashable
    entries: tuple[Entry, ...]
    rows: int
    padded_rows: int
    aged: bool = False
