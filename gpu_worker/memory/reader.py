"""The store's thread that reads models from disk."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from gpu_worker.errors import EngineError
from gpu_worker.memory.attempts import attempt
from gpu_worker.memory.digests import Digests, is_local
from gpu_worker.memory.plans import Misfit, Read, never_fits, next_read
from gpu_worker.memory.residence import Entry
from gpu_worker.memory.sources import Key, estimated_bytes, key_of
from gpu_worker.memory.weights import Weights, bytes_of
from gpu_worker.memory.workshop import Job, Workshop
from gpu_worker.outcomes import caught
from gpu_worker.pipelines import LoadedModel, Loader
from gpu_worker.request import ModelSource

# Held while a model is read. Libraries patch `torch.nn.Module` process-wide meanwhile, and two at once leave
# it patched for good: whoever else builds modules (an adapter's layers) takes it first.
MODULES = threading.Lock()


class Reader:
    """Reads what the plans ask for: into host memory, or onto the device where that is the same."""

    def __init__(self, shop: Workshop, loader: Loader, prepare: Callable[[Any], None]) -> None:
        self._shop = shop
        self._loader = loader
        self._prepare = prepare
        self._digests = Digests()
        self.thread = threading.Thread(
            target=shop.serve, args=(self._next,), name="model reader", daemon=True
        )

    def _next(self) -> Job | None:
        """With the lock held."""
        shelf = self._shop.shelf
        line = shelf.line()
        unknown = [s for key, s in line.items() if key not in shelf.entries and key not in shelf.sizes]
        if unknown:
            return lambda: self._estimate(unknown)
        plan = next_read(shelf.situation())
        if plan is None:
            return None
        source = line[plan.key]
        if isinstance(plan, Misfit):
            gone = self._shop.misfit(source, plan)
            return lambda: self._shop.free(gone)
        gone = self._make_room(plan)
        shelf.reading.add(key_of(source))
        return lambda: self._do(source, gone)

    def _make_room(self, plan: Read) -> list[Entry]:
        shelf = self._shop.shelf
        keys = [key for key in shelf.entries if key in plan.evict]
        return shelf.leave_host(keys) if shelf.two_tiers else [shelf.entries.pop(key) for key in keys]

    def _estimate(self, sources: Iterable[ModelSource]) -> None:
        sizes: dict[Key, int] = {}
        for source in sources:
            size = caught(
                lambda location=source.location: estimated_bytes(  # type: ignore[misc]
                    location, self._shop.placement.dtype.itemsize
                )
            )
            sizes[key_of(source)] = 0 if isinstance(size, Exception) else size
        with self._shop.changed:
            self._shop.shelf.sizes.update(sizes)

    def _do(self, source: ModelSource, gone: list[Entry]) -> None:
        self._shop.free(gone)
        outcome = attempt(lambda: self._read(source))
        with self._shop.changed:
            self._shop.shelf.reading.discard(key_of(source))
            if isinstance(outcome, EngineError):
                self._shop.failed(source, outcome)
                excess = []
            else:
                excess = self._shelve(outcome)
            self._shop.changed.notify_all()
        del outcome  # it may be in the excess
        self._shop.free(excess)

    def _shelve(self, entry: Entry) -> list[Entry]:
        """With the lock held: keep what was read. Returns what is to be freed."""
        shelf = self._shop.shelf
        if self._shop.closed:
            return [entry]
        reason = never_fits(shelf.situation(), entry.key, entry.bytes)
        if reason is not None:
            return self._shop.misfit(entry.model.source, Misfit(entry.key, reason)) or [entry]
        gone = shelf.trim_for(entry)
        if gone is None:  # larger than its files said; it is read again when there is room for its true size
            return [entry]
        shelf.add(entry)
        return gone

    def _read(self, source: ModelSource) -> Entry:
        if is_local(source.location):
            self._digests.verify(source)
        with MODULES:
            pipe = self._loader(source, self._shop.placement.dtype)
        self._digests.verify(source)  # a hub id is downloaded only now; a file may have changed meanwhile
        self._prepare(pipe)
        transfer, device = self._shop.transfer, self._shop.placement.device
        if transfer is None:
            pipe.to(device)
        return Entry(
            key=key_of(source),
            model=LoadedModel.of(source, pipe),
            bytes=bytes_of(pipe),
            weights=None if transfer is None else Weights(pipe, transfer, device),
            settle=lambda: None,
        )
