"""What the device does between two steps: the prompts of newcomers, the pictures of those that are done.

Each of these delays everybody in the next step. So one is done at a time, and who has come meanwhile is taken
in before the next is chosen: a request of a higher tier then goes before them.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gpu_worker.scheduling.entry import Batch, Entry

# Prompts encoded before a step of those that lead it. The rest of a crowd sits that step out.
ENCODED_AT_ONCE = 4
# Steps for which a finished request's picture waits at most while others wait for their first step.
DECODE_PATIENCE = 4


@dataclass(frozen=True, slots=True)
class Encode:
    """Prepare this entry of the batch."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Decode:
    """Decode this entry's next picture."""

    entry: Entry


class Errands:
    """Counts what was done since the last step, and for how long each finished request has waited."""

    def __init__(self) -> None:
        self._encoded: Counter[int] = Counter()  # by rank
        self._decoded = 0
        self._put_off: Counter[Entry] = Counter()  # steps; with those of `_waiting` after the coming one
        self._waiting: set[Entry] = set()

    def choose(
        self, batch: Batch | None, unprepared: Collection[Entry], denoised: Sequence[Entry]
    ) -> Encode | Decode | None:
        """What comes before the step of `batch`; None when the step does, with whom is prepared.

        First prompts, in the batch's order, the leader's without condition and any other when no higher
        newcomer waits for that step: a few of each tier, but one of tiers below the leader's. Then one
        picture, when no newcomer of its tier or a higher one waits, or it was put off for long; without a
        batch any.
        """
        chosen = self._prompt(batch, unprepared) if batch else None
        return chosen or self._picture(batch, denoised)

    def step_made(self, denoised: Sequence[Entry]) -> None:
        """Begin to count anew, with those that are denoised now."""
        self._encoded.clear()
        self._decoded = 0
        self._put_off.update(self._waiting)
        self._waiting.clear()
        self._put_off = Counter({entry: self._put_off[entry] for entry in denoised})

    def _prompt(self, batch: Batch, unprepared: Collection[Entry]) -> Encode | None:
        leader = batch.entries[0]
        for entry in batch.entries:
            most = ENCODED_AT_ONCE if entry.rank >= leader.rank else 1
            if entry not in unprepared or self._encoded[entry.rank] >= most:
                continue
            if entry is leader or not _waits_for_first_step(batch, entry.rank + 1):
                self._encoded[entry.rank] += 1
                return Encode(entry)
        return None

    def _picture(self, batch: Batch | None, denoised: Sequence[Entry]) -> Decode | None:
        if batch and self._decoded:
            return None
        for entry in denoised:
            is_patient = self._put_off[entry] < DECODE_PATIENCE
            if batch and is_patient and _waits_for_first_step(batch, entry.rank):
                self._waiting.add(entry)
            else:
                self._decoded += 1
                return Decode(entry)
        return None


def _waits_for_first_step(batch: Batch, rank: int) -> bool:
    """Whether somebody of this tier or above does, in this batch."""
    return any(not entry.started and entry.rank >= rank for entry in batch.entries)
