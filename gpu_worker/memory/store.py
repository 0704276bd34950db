"""The models in memory: loaded in the background, kept while they are used, evicted when room is needed."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from gpu_worker.devices import Placement
from gpu_worker.errors import EngineError
from gpu_worker.memory import plans
from gpu_worker.memory.budgets import Budgets
from gpu_worker.memory.eviction import free_up
from gpu_worker.memory.mover import Mover, claim, leave_device
from gpu_worker.memory.reader import Reader
from gpu_worker.memory.residence import Entry, Lease, Resident
from gpu_worker.memory.shelf import Shelf
from gpu_worker.memory.sources import key_of
from gpu_worker.memory.transfers import Transfer, transfer_for
from gpu_worker.memory.workshop import Workshop
from gpu_worker.pipelines import Loader, load
from gpu_worker.request import ModelSource

log = logging.getLogger(__name__)

CLOSE_SECONDS = 30.0


class ModelStore:
    """Keeps models on the device and in host memory, each within its budget.

    Say what is needed with `want`, in order of priority; background threads load it beside running steps and
    call `on_change` (from their thread, no lock held) when a lease may succeed or `failures` has news. All
    methods return at once and may be called from any thread, except `close`, which waits.

    The usual loop: `failures()` → fail their requests → `want(…)` → `lease(…)` → steps → `release()`.
    """

    def __init__(
        self,
        placement: Placement,
        budgets: Budgets,
        loader: Loader = load,
        *,
        prepare: Callable[[Any], None] | None = None,
        on_change: Callable[[], None] = lambda: None,
        transfer: Transfer | None = None,
    ) -> None:
        """`prepare(pipe)` runs once after loading, on the host, in the background (memory format, …).

        `transfer` replaces the way to the device; with one, there are two tiers even on a CPU.
        """
        transfer = transfer or transfer_for(placement)
        self._changed = threading.Condition()
        self._shelf = Shelf(budgets, two_tiers=transfer is not None)
        self._shop = Workshop(self._shelf, self._changed, placement, transfer, on_change)
        self._threads = [Reader(self._shop, loader, prepare or decode_one_by_one).thread]
        if transfer is not None:
            self._threads.append(Mover(self._shop).thread)
        for thread in self._threads:
            thread.start()

    @property
    def can_offload(self) -> bool:
        """Whether the device has a memory of its own, so that a model can run from the host's."""
        return self._shop.transfer is not None

    def want(self, sources: Sequence[ModelSource]) -> None:
        """What should be on the device, most urgent first; replaces the last list.

        The first may displace every model that is neither locked nor pinned; the others only what nobody
        wants. What finds no room on the device is read into host memory.
        """
        with self._changed:
            if self._shelf.want(sources):
                self._changed.notify_all()

    def lease(self, source: ModelSource) -> Lease | None:
        """The model if it is ready to run on the device: locked until released. None: not (yet).

        It loads nothing: only what is wanted or pinned is loaded.
        """
        with self._changed:
            entry = self._shelf.entries.get(key_of(source))
            if entry is None or not self._shelf.is_ready(entry):
                return None
            self._shelf.use(entry)
            return Lease(entry.model, entry.epoch, lambda: self._unlock(entry))

    def failures(self) -> list[tuple[ModelSource, EngineError]]:
        """Sources that could not be made ready, since the last call.

        `ModelUnavailable`: missing, broken, another digest than promised, or larger than the device ("needs
        X GiB, the device has Y"). `OutOfMemory`: it should have fitted; ask `Recovery.after_oom` (stage
        "load"). A source is tried again when it is wanted after its failure was delivered here.
        """
        with self._changed:
            return self._shelf.take_failures()

    def held_up(self) -> list[ModelSource]:
        """Wanted sources that find no room because of locked models: release those to let them in."""
        with self._changed:
            line = self._shelf.line()
            return [line[key] for key in plans.held_up(self._shelf.situation())]

    def pin(self, source: ModelSource) -> None:
        """Load it when nothing else is wanted, and never evict it."""
        with self._changed:
            self._shelf.pinned[key_of(source)] = source
            self._changed.notify_all()

    def unpin(self, source: ModelSource) -> None:
        """Make it a model like the others; unknown ones are none."""
        with self._changed:
            self._shelf.pinned.pop(key_of(source), None)
            self._changed.notify_all()

    def offload(self, source: ModelSource) -> None:
        """From its next lease on, run this model from host memory, layer by layer: slow, but it fits.

        Holds as long as the store. Does nothing where device and host are one memory.
        """
        with self._changed:
            if self._shelf.two_tiers:
                self._shelf.to_stream.add(key_of(source))
                self._changed.notify_all()

    def evict_unlocked(self, bytes_needed: int | None = None) -> int:
        """Take unlocked, unpinned models off the device until `bytes_needed` are free (None: all of them).

        Returns the bytes freed. They come back when they are first in the wanted list.
        """
        with self._changed:
            evicted = claim(self._shop, free_up(self._shelf.items(), bytes_needed))
            self._shelf.backed_off.update(entry.key for entry in evicted)
            freed = sum(entry.bytes for entry in evicted)
        leave_device(self._shop, evicted)
        self._shop.placement.free_caches()
        return freed

    def residents(self) -> tuple[Resident, ...]:
        """Every model in memory, the least recently used first."""
        with self._changed:
            pinned = self._shelf.pinned
            return tuple(entry.resident(entry.key in pinned) for entry in self._shelf.by_use())

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Stop the threads (`timeout`: seconds to wait for a load under way) and drop every model."""
        with self._changed:
            self._shop.closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout)
            if thread.is_alive():
                log.warning("the %s is still at work and is left behind", thread.name)
        with self._changed:
            gone = list(self._shelf.entries.values())
            self._shelf.entries.clear()
        self._shop.free(gone)

    def _unlock(self, entry: Entry) -> None:
        settle = self._shop.transfer.mark() if self._shop.transfer is not None else entry.settle
        with self._changed:
            entry.settle = settle
            entry.locks -= 1
            self._changed.notify_all()


def decode_one_by_one(pipe: Any) -> None:
    """Decoding needs the most memory; picture by picture that does not grow with their number."""
    vae: Any = getattr(pipe, "vae", None)
    if hasattr(vae, "enable_slicing"):
        vae.enable_slicing()
