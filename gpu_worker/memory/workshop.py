"""What the store's threads share."""

import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from gpu_worker.devices import Placement
from gpu_worker.errors import EngineError, ModelUnavailable
from gpu_worker.memory.plans import Misfit
from gpu_worker.memory.residence import Entry
from gpu_worker.memory.shelf import Shelf
from gpu_worker.memory.transfers import Transfer
from gpu_worker.outcomes import as_engine_error, caught
from gpu_worker.request import ModelSource

log = logging.getLogger(__name__)


class Job(Protocol):
    """Something planned and claimed with the lock held, to be done without it."""

    def __call__(self) -> None: ...


@dataclass(slots=True)
class Workshop:
    """`changed` guards `shelf` and `closed`. `transfer` is None where device and host are one memory."""

    shelf: Shelf
    changed: threading.Condition
    placement: Placement
    transfer: Transfer | None
    on_change: Callable[[], None]
    closed: bool = False

    def __post_init__(self) -> None:
        _spare_what_imports_left()

    def serve(self, next_job: Callable[[], Job | None]) -> None:
        """A thread's life: ask `next_job`, with the lock held; do it; sleep when there is none."""
        while (job := self._await(next_job)) is not None:
            job()
            del job  # what it held would stay in memory until the next one
            if isinstance(error := caught(self.on_change), Exception):
                log.warning("on_change raised %r", as_engine_error(error))

    def _await(self, next_job: Callable[[], Job | None]) -> Job | None:
        with self.changed:
            while not self.closed:
                if (job := next_job()) is not None:
                    return job
                self.changed.wait()
        return None

    def misfit(self, source: ModelSource, plan: Misfit) -> list[Entry]:
        """With the lock held: note that it can never fit. Returns what is to be freed."""
        self.shelf.fail(source, ModelUnavailable(f"model {source.slug!r} {plan.reason}"))
        entry = self.shelf.entries.get(plan.key)
        if entry is None or entry.locks or entry.busy:
            return []
        del self.shelf.entries[entry.key]
        return [entry]

    def failed(self, source: ModelSource, error: EngineError) -> None:
        """With the lock held: have it reported."""
        log.warning("model %s: %s", source.slug, error)
        self.shelf.fail(source, error)

    def free(self, entries: list[Entry]) -> None:
        """Give back the memory of entries that are no longer in the shelf, and empty the list.

        Without the lock. The weights of a two-tier model go at once; others, and what diffusers' hooks hold,
        go with the pipeline, which is full of cycles.
        """
        if not entries:
            return
        must_collect = any(entry.weights is None or entry.streamed for entry in entries)
        while entries:
            _clear(entries.pop())
        if must_collect:
            gc.collect()
        self.placement.free_caches()


@cache
def _spare_what_imports_left() -> None:
    """Keep it, 400,000 objects that stay for good, out of all later collections: they hold up every thread,
    the GPU's too, for tenths of a second instead of hundredths. Once per process, before models come."""
    gc.freeze()


def _clear(entry: Entry) -> None:
    entry.settle()
    if entry.weights is not None:
        entry.weights.clear()
