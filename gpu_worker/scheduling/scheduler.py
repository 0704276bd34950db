"""The scheduler: keeps the entries and answers what to run next."""

import math
from bisect import insort
from collections.abc import Callable, Hashable
from itertools import count

from gpu_worker.scheduling import batching, order
from gpu_worker.scheduling.ageing import Ageing
from gpu_worker.scheduling.entry import Batch, Entry, SchedulingConfig
from gpu_worker.scheduling.step_times import StepTimes


class Scheduler:
    """Decides step by step what one device does. Not thread-safe: the caller holds a lock around each call.

    `now` is in seconds of the caller's monotonic clock. A decision changes nothing: `next_batch` may be asked
    again, after an out-of-memory error for instance; only `step_done` (or `advance`) makes it count.
    """

    def __init__(self, config: SchedulingConfig | None = None) -> None:
        self._config = config or SchedulingConfig()
        self._entries: dict[str, Entry] = {}
        self._by_arrival: list[Entry] = []
        self._numbers = count()
        self._ready: set[Hashable] = set()
        self._row_limits: dict[Hashable, int] = {}
        self._times = StepTimes()
        self._ageing = Ageing(self._config)
        self._served: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._entries

    def add(self, entry: Entry) -> None:
        """Take an entry in. Raises `ValueError` for an id already here, or rows or steps below 1."""
        if entry.id in self._entries:
            raise ValueError(f"entry {entry.id!r} is already scheduled")
        if entry.rows < 1 or entry.steps_left < 1:
            raise ValueError("rows and steps_left must be at least 1")
        entry.number = next(self._numbers)
        self._entries[entry.id] = entry
        insort(self._by_arrival, entry, key=lambda e: e.age_order)

    def remove(self, entry_id: str) -> Entry | None:
        """Forget an entry, one that failed for instance. None when it is unknown."""
        entry = self._entries.get(entry_id)
        if entry is not None:
            self._take(lambda e: e is entry)
        return entry

    def cancel(self, entry_id: str) -> bool:
        """Keep an entry out of every further step; `due` gives it back. False when it is unknown."""
        entry = self._entries.get(entry_id)
        if entry is not None:
            entry.cancelled = True
        return entry is not None

    def due(self, now: float) -> list[Entry]:
        """Remove and return what was cancelled or is past its deadline: the caller ends these."""
        return self._take(lambda entry: entry.is_due(now))

    def _take(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        taken = [entry for entry in self._by_arrival if wanted(entry)]
        if taken:
            for entry in taken:
                del self._entries[entry.id]
            self._by_arrival = [entry for entry in self._by_arrival if entry.id in self._entries]
        return taken

    def set_ready(self, model: Hashable, ready: bool) -> None:
        """Say whether a model is on the device. At first none is."""
        if ready:
            self._ready.add(model)
        else:
            self._ready.discard(model)

    def set_row_limit(self, key: Hashable, rows: int | None) -> None:
        """Most rows of a step of `key` that fit memory; None lifts the limit. `max_rows` holds in any case.

        An entry with more rows than that is still given out, alone: the caller splits it or fails it.
        """
        if rows is None:
            self._row_limits.pop(key, None)
        else:
            self._row_limits[key] = max(1, rows)

    def row_limit(self, key: Hashable) -> int:
        """Rows, by memory and `max_rows`; the step time may cap a batch below it."""
        return min(self._config.max_rows, self._row_limits.get(key, self._config.max_rows))

    def next_batch(self, now: float) -> Batch | None:
        """The entries of the next step. None exactly when no live entry's model is on the device."""
        tiers = self._tiers(now)
        lines = self._lines(tiers)
        if not lines:
            return None
        top, *lower = lines
        turn = self._ageing.turn(lower, any(not entry.started for entry in lines[top].entries))
        leader = lines[top if turn is None else turn].entries[0]
        alone = self._config.lift_time_cap_when_alone and all(
            entry.key == leader.key for tier in tiers.values() for entry in tier
        )
        budget = math.inf if alone else self._config.step_budget_seconds
        rows = batching.capacity(leader, self.row_limit(leader.key), budget, self._config, self._times)
        return batching.form(leader, lines, rows, self._config, self._times)

    def step_done(self, batch: Batch, seconds: float, now: float) -> list[Entry]:
        """Account for a finished step which took `seconds` of the device.

        Returns the entries that have no steps left and takes them out. One that was cancelled or passed its
        deadline meanwhile is not among them: it comes from `due`. Raises `ValueError` for negative seconds.
        """
        self.timed(batch, seconds)
        return self.advance(batch, now)

    def advance(self, batch: Batch, now: float) -> list[Entry]:
        """The part of `step_done` that needs no time, for a caller that measures the step later."""
        tiers = self._tiers(now)
        members = set(batch.entries)
        served = {rank for rank, line in self._lines(tiers).items() if line.entries[0] in members}
        self._ageing.count(tiers, served, batch.entries[0] if batch.aged else None)
        for tier in tiers.values():
            order.count_passes(tier, members)
        for entry in batch.entries:
            entry.started = True
            entry.steps_left -= 1
        return self._take(lambda e: e in members and e.steps_left <= 0 and not e.is_due(now))

    def timed(self, batch: Batch, seconds: float) -> None:
        """The other part: learn the step's time and share it among its entries by rows."""
        if not 0 <= seconds < math.inf:
            raise ValueError("seconds must be finite and not negative")
        self._times.record(batch.key, batch.padded_rows, seconds)
        for entry in batch.entries:
            self.charge(entry, seconds * entry.rows / batch.rows)

    def charge(self, entry: Entry, seconds: float) -> None:
        """Put device time on an entry's account: encoding its prompt or decoding it, for instance."""
        entry.gpu_seconds += seconds
        self._served[entry.rank] = self._served.get(entry.rank, 0.0) + seconds

    def served(self) -> dict[int, float]:
        """GPU seconds by rank since the start."""
        return dict(self._served)

    def wanted(self, now: float) -> list[Hashable]:
        """Every model with live entries, on the device or not, the most urgent first.

        Load the first that is missing. To make room for it evict only models that are not in the list, or
        come later in it, from its end. That alone keeps urgent work from being starved by a stream of ready
        work below it, and the device busy meanwhile as long as there is room for two.
        """
        tiers = self._tiers(now)
        models: list[Hashable] = []
        urgent: list[Hashable] = []
        for number, (rank, tier) in enumerate(tiers.items()):
            ordered = order.models_in_order(tier, self._ready, self._config)
            if number and self._ageing.needs_model(rank):
                urgent.append(ordered[0])
            models += ordered
        # Behind the model in force, never before it: ageing may cost the highest tier a step, not a reload.
        return list(dict.fromkeys(models[:1] + urgent + models[1:]))

    def _tiers(self, now: float) -> dict[int, list[Entry]]:
        return order.by_tier(
            entry for entry in self._by_arrival if entry.steps_left > 0 and not entry.is_due(now)
        )

    def _lines(self, tiers: dict[int, list[Entry]]) -> dict[int, order.Line]:
        lines = {rank: order.line_of(tier, self._ready, self._config) for rank, tier in tiers.items()}
        return {rank: line for rank, line in lines.items() if line.entries}
