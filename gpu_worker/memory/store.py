"""The models in memory: loaded in the background, kept while they are used, evicted when room is needed."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from gpu_worker.devices import Placement
from gpu_worker.errors import EngineError
from gpu_worker.memory.budgets import Budgets
from gpu_worker.outcomes import as_engine_error, caught
from gpu_worker.pipelines import LoadedModel, Loader, load
from gpu_worker.request import ModelSource

Key = tuple[str, str, str | None]
CLOSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Resident:
    """One model at a moment: `bytes` of its weights, where they are, and who holds on to them.

    `streamed`: it is too large for the device and runs from host memory, layer by layer.
    """

    source: ModelSource
    bytes: int
    on_device: bool
    on_host: bool
    streamed: bool
    locks: int
    pinned: bool
    last_use: int


class Lease:
    """A model ready to run; it stays so until `release`. Also a context manager.

    `model` and `pipe` must not be used after `release`. `epoch` changes whenever the weights have moved to
    other addresses: whatever remembers addresses (CUDA graphs) is good for one epoch only.
    """

    def __init__(self, model: LoadedModel, epoch: int, release: Callable[[], None]) -> None:
        self.model = model
        self.epoch = epoch
        self._release: Callable[[], None] | None = release

    @property
    def source(self) -> ModelSource:
        return self.model.source

    @property
    def pipe(self) -> Any:
        return self.model.pipe

    def release(self) -> None:
        """Give the model back; again is harmless. Any thread."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclass(slots=True)
class _Entry:
    model: LoadedModel
    bytes: int
    locks: int = 0
    last_use: int = 0


@dataclass(slots=True)
class _Failures:
    undelivered: dict[Key, tuple[ModelSource, EngineError]] = field(default_factory=dict)


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
    ) -> None:
        """`prepare(pipe)` runs once after loading, on the host, in the background (memory format, …)."""
        self._placement = placement
        self._budgets = budgets
        self._loader = loader
        self._prepare = prepare or decode_one_by_one
        self._on_change = on_change
        self._changed = threading.Condition()
        self._wanted: list[ModelSource] = []
        self._pinned: dict[Key, ModelSource] = {}
        self._entries: dict[Key, _Entry] = {}
        self._failed: dict[Key, tuple[ModelSource, EngineError]] = {}
        self._clock = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)
        self._thread.start()

    def want(self, sources: Sequence[ModelSource]) -> None:
        """What should be on the device, most urgent first; replaces the last list.

        The first may displace every model that is neither locked nor pinned; the others only what nobody
        wants. What finds no room on the device is read into host memory.
        """
        with self._changed:
            self._wanted = list(sources)
            self._changed.notify_all()

    def lease(self, source: ModelSource) -> Lease | None:
        """The model if it is ready to run on the device: locked until released. None: not (yet)."""
        with self._changed:
            entry = self._entries.get(key_of(source))
            if entry is None:
                return None
            self._clock += 1
            entry.last_use = self._clock
            entry.locks += 1
            return Lease(entry.model, 0, lambda: self._unlock(entry))

    def failures(self) -> list[tuple[ModelSource, EngineError]]:
        """Sources that could not be made ready, since the last call.

        `ModelUnavailable`: missing, broken, another digest than promised, or larger than the device ("needs
        X GiB, the device has Y"). `OutOfMemory`: it should have fitted; ask `Recovery.after_oom` (stage
        "load"). A source is tried again when it is wanted after its failure was delivered here.
        """
        with self._changed:
            failed, self._failed = list(self._failed.values()), {}
            self._changed.notify_all()
            return failed

    def held_up(self) -> list[ModelSource]:
        """Wanted sources that find no room because of locked models: release those to let them in."""
        return []

    def pin(self, source: ModelSource) -> None:
        """Load it when nothing else is wanted, and never evict it."""
        with self._changed:
            self._pinned[key_of(source)] = source
            self._changed.notify_all()

    def unpin(self, source: ModelSource) -> None:
        with self._changed:
            self._pinned.pop(key_of(source), None)

    def offload(self, source: ModelSource) -> None:
        """From its next lease on, run this model from host memory, layer by layer: slow, but it fits."""

    def evict_unlocked(self, bytes_needed: int | None = None) -> int:
        """Take unlocked, unpinned models off the device until `bytes_needed` are free (None: all of them).

        Returns the bytes freed. They come back when they are first in the wanted list.
        """
        freed = 0
        with self._changed:
            for key, entry in sorted(self._entries.items(), key=lambda item: item[1].last_use):
                if bytes_needed is not None and freed >= bytes_needed:
                    break
                if not entry.locks and key not in self._pinned:
                    del self._entries[key]
                    freed += entry.bytes
        self._placement.free_caches()
        return freed

    def residents(self) -> tuple[Resident, ...]:
        """Every model in memory, the least recently used first."""
        with self._changed:
            entries = sorted(self._entries.items(), key=lambda item: item[1].last_use)
            return tuple(
                Resident(e.model.source, e.bytes, True, True, False, e.locks, key in self._pinned, e.last_use)
                for key, e in entries
            )

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Stop the threads (`timeout`: seconds to wait for a load under way) and drop every model."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            self._entries.clear()
        self._placement.free_caches()

    def _unlock(self, entry: _Entry) -> None:
        with self._changed:
            entry.locks -= 1
            self._changed.notify_all()

    def _work(self) -> None:
        while (source := self._next()) is not None:
            outcome = caught(lambda source=source: self._load(source))  # type: ignore[misc]
            if isinstance(outcome, Exception):
                outcome = as_engine_error(outcome)
            with self._changed:
                if isinstance(outcome, EngineError):
                    self._failed[key_of(source)] = source, outcome
                else:
                    self._entries[key_of(source)] = outcome
            self._on_change()

    def _next(self) -> ModelSource | None:
        with self._changed:
            while not self._closed:
                for source in (*self._wanted, *self._pinned.values()):
                    if key_of(source) not in self._entries and key_of(source) not in self._failed:
                        return source
                self._changed.wait()
        return None

    def _load(self, source: ModelSource) -> _Entry:
        pipe = self._loader(source, self._placement.dtype)
        self._prepare(pipe)
        pipe.to(self._placement.device)
        return _Entry(LoadedModel.of(source, pipe), 0)


def key_of(source: ModelSource) -> Key:
    return source.location, source.family, source.digest


def decode_one_by_one(pipe: Any) -> None:
    """Decoding needs the most memory; picture by picture that does not grow with their number."""
    vae: Any = getattr(pipe, "vae", None)
    if hasattr(vae, "enable_slicing"):
        vae.enable_slicing()
