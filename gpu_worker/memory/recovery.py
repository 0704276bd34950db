"""What memory allowed and what it did not, remembered per model and size."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gpu_worker.memory.ladder import Context, Rung, Stage, halved, next_rung
from gpu_worker.request import ModelSource

BUCKETS = (1, 2, 4, 8, 16, 32, 64)
# Successes at the limit before one more bucket is tried; doubled each time that fails.
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
    """Of one key and stage. `limit` None: no failure yet."""

    done: set[Rung] = field(default_factory=set)
    limit: int | None = None
    successes: int = 0
    probe_after: int = PROBE_AFTER


class Recovery:
    """Decides after each out-of-memory and remembers what fitted. Used by one thread, the GPU's.

    Call `after_oom` outside the `except` block: there the traceback still holds the tensors. Take the
    decision's measure with `rungs.apply`, then try again with `decision.rows` rows at most, unless it is
    FAIL: then fail the one request in that batch with `OutOfMemory`.
    """

    def __init__(self, *, can_offload: bool, buckets: Sequence[int] = BUCKETS) -> None:
        """`can_offload`: the device has a memory of its own. `buckets`: batch sizes in use, in rows."""
        self._can_offload = can_offload
        self._buckets = sorted(buckets)
        self._memories: dict[tuple[SizeKey, Stage], _Memory] = {}
        self._offloaded: set[ModelSource] = set()

    def after_oom(self, key: SizeKey, rows: int, stage: Stage = "denoise", least: int = 1) -> Decision:
        """What to do after `rows` rows of `key` did not fit. `least`: rows of the smallest request in it."""
        memory = self._memory(key, stage)
        done = memory.done | ({Rung.OFFLOAD} if key.model in self._offloaded else set())
        rung = next_rung(Context(stage, rows, least, frozenset(done), self._can_offload))
        memory.successes = 0
        if rung is Rung.HALVE:
            memory.limit = halved(rows, least)
            return Decision(rung, memory.limit)
        if rung is Rung.OFFLOAD:
            self._offloaded.add(key.model)
        memory.done.add(rung)
        return Decision(rung, rows)

    def fitted(self, key: SizeKey, rows: int, stage: Stage = "denoise") -> None:
        """A step (or decode) of `rows` rows went through."""

    def row_limit(self, key: SizeKey, stage: Stage = "denoise") -> int | None:
        """Most rows to put into one batch; None: nothing known against any number."""
        return self._memory(key, stage).limit

    def measures(self, key: SizeKey) -> Measures:
        """What this model at this size needs."""
        tiled = Rung.TILE in self._memory(key, "decode").done
        return Measures(tiled=tiled, offloaded=key.model in self._offloaded)

    def _memory(self, key: SizeKey, stage: Stage) -> _Memory:
        return self._memories.setdefault((key, stage), _Memory())
