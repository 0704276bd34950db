"""What memory allowed and what it did not, remembered per model and size."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_worker.memory.ladder import Context, Rung, Stage, halved, next_rung
from gpu_worker.request import ModelSource

BUCKETS = (1, 2, 4, 8, 16, 32, 64)
# Successes before one bucket more, or decoding without tiles, is tried; doubled each time that fails.
PROBE_AFTER = 64
LONGEST_WAIT = 4096
# After so many successes a failure counts as a new one: caches may be freed again before rows are cut.
CALM_AFTER = 16


@dataclass(frozen=True, slots=True)
class SizeKey:
    """What decides about memory: the model and the picture's size in pixels."""

    model: ModelSource
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Decision:
    """The measure to take now; the next try may have at most `rows` rows."""

    rung: Rung
    rows: int


@dataclass(frozen=True, slots=True)
class Measures:
    """What a model at a size needs to fit: tiles when decoding, weights in host memory."""

    tiled: bool = False
    offloaded: bool = False


@dataclass(slots=True)
class _Memory:
    """Of one key and stage. `limit`: rows now allowed, None for any number; `safe`: rows known to fit."""

    limit: int | None = None
    safe: int = 0
    has_freed: bool = False
    tiled: bool = False
    probes_untiled: bool = False
    successes: int = 0
    wait: int = PROBE_AFTER

    def put_back(self) -> None:
        """A probe failed: what was known holds, and the next probe comes later."""
        self.wait = min(2 * self.wait, LONGEST_WAIT)


class Recovery:
    """Decides after each out-of-memory and remembers what fitted. Used by one thread, the GPU's.

    Call `after_oom` outside the `except` block: there the traceback still holds the tensors. Take the
    decision's measure with `rungs.apply`, then try again with `decision.rows` rows at most; on FAIL, fail the
    one request that was in that batch with `OutOfMemory`. A row is what goes through the denoiser at once: a
    request with guidance has two; when decoding, a row is a picture.
    """

    def __init__(self, *, can_offload: bool, buckets: Sequence[int] = BUCKETS) -> None:
        """`can_offload`: the device has a memory of its own. `buckets`: batch sizes in use, in rows."""
        self._can_offload = can_offload
        self._buckets = sorted(buckets)
        self._memories: dict[tuple[SizeKey, Stage], _Memory] = {}
        self._offloaded: set[ModelSource] = set()

    def after_oom(self, key: SizeKey, rows: int, stage: Stage = "denoise", least: int = 1) -> Decision:
        """What to do after `rows` rows of `key` did not fit. `least`: its smallest request's rows."""
        memory = self._memories.setdefault((key, stage), _Memory())
        memory.successes = 0
        if memory.limit is not None and least <= memory.safe < rows:
            memory.put_back()
            memory.limit = max(memory.safe, halved(rows, least))
            return Decision(Rung.HALVE, memory.limit)
        if memory.probes_untiled:
            memory.put_back()
            memory.tiled, memory.probes_untiled = True, False
            return Decision(Rung.TILE, rows)
        rung = next_rung(Context(stage, rows, least, self._done(key, memory), self._can_offload))
        return Decision(rung, self._remember(rung, key, memory, rows, least))

    def fitted(self, key: SizeKey, rows: int, stage: Stage = "denoise") -> None:
        """A step (or decode) of `rows` rows went through."""
        memory = self._memories.get((key, stage))
        if memory is None:
            return  # it never failed
        memory.safe = max(memory.safe, rows)
        memory.successes += 1
        if memory.successes >= CALM_AFTER:
            memory.has_freed = False
        at_limit = memory.limit is None or rows >= memory.limit
        if memory.successes >= memory.wait and (memory.tiled or at_limit):
            self._probe(memory)

    def row_limit(self, key: SizeKey, stage: Stage = "denoise") -> int | None:
        """Most rows to put into one batch; None: nothing known against any number.

        For a size that never failed, what smaller pictures of the model could. A single request may go beyond
        it: it has to be tried.
        """
        own = self._memories.get((key, stage))
        if own is not None and own.limit is not None:
            return own.limit
        smaller = [
            memory.limit
            for (other, other_stage), memory in self._memories.items()
            if other_stage == stage and other.model == key.model and other.pixels < key.pixels
            if memory.limit is not None
        ]
        return min(smaller, default=None)

    def measures(self, key: SizeKey) -> Measures:
        """What this model at this size needs."""
        decode = self._memories.get((key, "decode"))
        return Measures(tiled=decode is not None and decode.tiled, offloaded=key.model in self._offloaded)

    def _done(self, key: SizeKey, memory: _Memory) -> frozenset[Rung]:
        tried = {
            Rung.FREE: memory.has_freed,
            Rung.TILE: memory.tiled,
            Rung.OFFLOAD: key.model in self._offloaded,
        }
        return frozenset(rung for rung, done in tried.items() if done)

    def _remember(self, rung: Rung, key: SizeKey, memory: _Memory, rows: int, least: int) -> int:
        """Note that the measure is being taken. Returns the rows of the next try."""
        if rung is Rung.FREE:
            memory.has_freed = True
        elif rung is Rung.HALVE:
            memory.limit = halved(rows, least)
            memory.safe = min(memory.safe, memory.limit)
            return memory.limit
        elif rung is Rung.TILE:
            memory.tiled = True
        elif rung is Rung.OFFLOAD:
            self._offloaded.add(key.model)
        else:
            memory.has_freed = False  # the next request gets the whole ladder
        return rows

    def _probe(self, memory: _Memory) -> None:
        """One thing less than what is known to be needed: first the tiles, then the rows' limit."""
        memory.successes = 0
        if memory.tiled:
            memory.tiled, memory.probes_untiled = False, True
        elif memory.probes_untiled:
            memory.probes_untiled = False  # it fits again
        elif memory.limit is not None:
            larger = [bucket for bucket in self._buckets if bucket > memory.limit]
            memory.limit = larger[0] if larger else None
