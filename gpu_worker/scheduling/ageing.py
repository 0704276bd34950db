"""The small share of steps that goes to tiers which would otherwise never have a turn."""

from collections.abc import Collection, Iterable

from gpu_worker.scheduling.entry import Entry, SchedulingConfig


class Ageing:
    """Counts, per tier, the steps since its first in line was served; and the steps since ageing took one."""

    def __init__(self, config: SchedulingConfig) -> None:
        self._config = config
        self._unserved: dict[int, int] = {}
        self._since_aged = config.ageing_steps
        self._carried: dict[int, Entry] = {}

    def turn(self, ranks: Iterable[int], first_step_waits: bool) -> int | None:
        """Which of these lower tiers takes the next step, out of order: the one that has waited longest.

        None most of the time: one step in `ageing_steps`, over all tiers, is the most that the highest loses.
        While one of the highest tier waits for its first step (`first_step_waits`) it is put off, by at most
        as many steps again: who has just come would notice the wait, one among many steps nobody does.
        """
        steps = self._config.ageing_steps
        if self._since_aged < steps - 1:
            return None
        patience = 2 * steps - 1 if first_step_waits else steps - 1
        waiting = [rank for rank in ranks if self._unserved.get(rank, 0) >= patience]
        return max(waiting, key=lambda rank: (self._unserved[rank], rank), default=None)

    def count(self, waiting: Iterable[int], served: Collection[int], carried: Entry | None) -> None:
        """Note a step: the tiers with entries, those whose first in line was in it, whom ageing led in."""
        self._unserved = {rank: 0 if rank in served else self._unserved.get(rank, 0) + 1 for rank in waiting}
        self._since_aged = 0 if carried else self._since_aged + 1
        for rank in served:
            self._carried.pop(rank, None)
        if carried:
            self._carried[carried.rank] = carried

    def needs_model(self, rank: int) -> bool:
        """Whether a lower tier's first model should be loaded, and kept, beside the work in force.

        True when it has waited for long, and from then on until the entry that ageing serves step by step is
        done: a model loaded for a single step would be a waste.
        """
        carried = self._carried.get(rank)
        if carried is not None and carried.steps_left > 0 and not carried.cancelled:
            return True
        return self._unserved.get(rank, 0) >= self._config.ageing_load_steps
