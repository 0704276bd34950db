"""The store's thread that brings models to the device; and how models leave it."""

import threading
from collections.abc import Sequence

from gpu_worker.errors import OutOfMemory
from gpu_worker.memory.attempts import attempt
from gpu_worker.memory.offloading import stream_from_host
from gpu_worker.memory.plans import Copy, Misfit, next_copy
from gpu_worker.memory.residence import Entry
from gpu_worker.memory.workshop import Job, Workshop


class Mover:
    """Moves what the plans ask for. Only where the device has a memory of its own is there a thread."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self.thread = threading.Thread(target=shop.serve, args=(self._next,), name="model mover", daemon=True)

    def _next(self) -> Job | None:
        """With the lock held."""
        shelf = self._shop.shelf
        plan = next_copy(shelf.situation())
        if plan is None:
            return None
        entry = shelf.entries[plan.key]
        if isinstance(plan, Misfit):
            gone = self._shop.misfit(shelf.line()[entry.key], plan)
            return lambda: self._shop.free(gone)
        evicted = claim(self._shop, plan.evict) if isinstance(plan, Copy) else []
        entry.busy = True
        if isinstance(plan, Copy):
            return lambda: self._copy(entry, evicted)
        return lambda: self._stream(entry)

    def _copy(self, entry: Entry, evicted: list[Entry]) -> None:
        leave_device(self._shop, evicted)
        assert entry.weights is not None
        error = attempt(entry.weights.to_device)
        shelf = self._shop.shelf
        with self._shop.changed:
            entry.busy = False
            is_first = shelf.is_first(entry.key)
            if error is None:
                entry.epoch += 1
                shelf.backed_off.discard(entry.key)
            elif isinstance(error, OutOfMemory) and not is_first:
                shelf.backed_off.add(entry.key)  # nobody waits for it yet
            else:
                self._shop.failed(entry.model.source, error)
            excess = shelf.trim_host()
            self._shop.changed.notify_all()
        self._shop.free(excess)

    def _stream(self, entry: Entry) -> None:
        error = attempt(lambda: self._do_stream(entry))
        with self._shop.changed:
            entry.busy = False
            entry.streamed = error is None
            entry.epoch += 1
            if error is not None:
                self._shop.failed(entry.model.source, error)
            excess = self._shop.shelf.trim_host()
            self._shop.changed.notify_all()
        self._shop.free(excess)

    def _do_stream(self, entry: Entry) -> None:
        assert entry.weights is not None
        entry.settle()
        entry.weights.to_host()
        self._shop.placement.free_caches()
        stream_from_host(entry.model.pipe, self._shop.placement.device)


def claim(shop: Workshop, keys: Sequence[object]) -> list[Entry]:
    """With the lock held: these models' tensors are nobody else's until they have left the device."""
    entries = [entry for key, entry in shop.shelf.entries.items() if key in keys]
    for entry in entries:
        entry.busy = True
    return entries


def leave_device(shop: Workshop, entries: list[Entry]) -> None:
    """Take claimed models off the device: to the host where a copy is there, else out of memory.

    Empties the list, so that nothing keeps them.
    """
    gone = [entry for entry in entries if not _back_to_host(entry)]
    with shop.changed:
        for key in [entry.key for entry in gone]:
            del shop.shelf.entries[key]
        while entries:
            entries.pop().busy = False
        shop.changed.notify_all()
    shop.free(gone)


def _back_to_host(entry: Entry) -> bool:
    entry.settle()
    if entry.weights is None or not entry.weights.on_host:
        return False
    entry.weights.to_host()
    return True
