"""A device that is only a clock: runs what the scheduler picks and notes what happened."""

from collections.abc import Callable, Hashable

from gpu_worker.scheduling import Batch, Entry, Scheduler, SchedulingConfig

StepSeconds = Callable[[Hashable, int], float]


def even(key: Hashable, rows: int) -> float:
    """Seconds of a step: a launch cost and a share per computed row, as past the knee of a GPU."""
    return 0.02 + 0.01 * rows


class World:
    """`ticks` counts steps; `first_tick` and `done_tick` say by id when an entry had its first and last."""

    def __init__(self, config: SchedulingConfig | None = None, step_seconds: StepSeconds = even) -> None:
        self.scheduler = Scheduler(config)
        self.step_seconds = step_seconds
        self.now = 0.0
        self.ticks = 0
        self.fed_seconds = 0.0
        self.first_tick: dict[str, int] = {}
        self.done_tick: dict[str, int] = {}
        self._names = 0

    def add(
        self, key: str = "a", rank: int = 0, *, rows: int = 2, steps: int = 4, deadline: float | None = None
    ) -> Entry:
        """An entry that arrives now. The key is the model too, up to a slash: `a/512` is of model `a`."""
        self._names += 1
        model = key.partition("/")[0]
        entry = Entry(f"{self._names}", key, model, rank, rows, steps, self.now, deadline)
        self.scheduler.add(entry)
        return entry

    def ready(self, *models: str) -> None:
        for model in models:
            self.scheduler.set_ready(model, True)

    def pick(self) -> list[str]:
        """Ids of the next batch, which is not run."""
        batch = self.scheduler.next_batch(self.now)
        return [] if batch is None else [entry.id for entry in batch.entries]

    def step(self) -> Batch | None:
        batch = self.scheduler.next_batch(self.now)
        if batch is None:
            return None
        seconds = self.step_seconds(batch.key, batch.padded_rows)
        self.now += seconds
        self.fed_seconds += seconds
        for entry in batch.entries:
            self.first_tick.setdefault(entry.id, self.ticks)
        for entry in self.scheduler.step_done(batch, seconds, self.now):
            self.done_tick[entry.id] = self.ticks
        self.ticks += 1
        return batch

    def steps(self, number: int) -> list[Batch]:
        return [batch for _ in range(number) if (batch := self.step()) is not None]
