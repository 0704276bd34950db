"""LoRAs in host memory, within a budget of bytes."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gpu_worker.errors import EngineError
from gpu_worker.memory.attempts import attempt
from gpu_worker.memory.eviction import Item, device_victims
from gpu_worker.memory.lora_files import LoraWeights, read_lora
from gpu_worker.memory.sources import Key, Source
from gpu_worker.outcomes import as_engine_error, caught

log = logging.getLogger(__name__)


class LoraLease:
    """A LoRA that stays in memory until `release`. Also a context manager."""

    def __init__(self, source: Source, weights: LoraWeights, release: Callable[[], None]) -> None:
        self.source = source
        self.weights = weights
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give it back; again is harmless. Any thread."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclass(slots=True, eq=False)
class _Entry:
    weights: LoraWeights
    last_use: int
    locks: int = 0


class LoraStore:
    """LoRAs by the rules of `ModelStore`: want, then lease; locked ones stay, the oldest use goes first.

    Only plain LoRAs in safetensors files are read; see `read_lora`. Sources are `.safetensors` files whose
    `digest` is the file's SHA-256. What is wanted is never evicted for something wanted less; the budget may
    be exceeded by one file.
    """

    def __init__(self, budget: int, *, on_change: Callable[[], None] = lambda: None) -> None:
        """`budget`: bytes of host memory."""
        self._budget = budget
        self._on_change = on_change
        self._changed = threading.Condition()
        self._wanted: dict[Key, Source] = {}
        self._entries: dict[Key, _Entry] = {}
        self._failed: dict[Key, tuple[Source, EngineError]] = {}
        self._resting: set[Key] = set()  # failures delivered, not wanted again yet
        self._uses = 0
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="LoRA reader", daemon=True)
        self._thread.start()

    def want(self, sources: Sequence[Source]) -> None:
        """What to read in the background, most urgent first; replaces the last list."""
        wanted = {_key(source): source for source in sources}
        with self._changed:
            if list(wanted) != list(self._wanted) or self._resting:
                self._wanted = wanted
                self._resting.clear()
                self._changed.notify_all()

    def lease(self, source: Source) -> LoraLease | None:
        """The LoRA if it is in memory, locked until released; None: not (yet)."""
        with self._changed:
            entry = self._entries.get(_key(source))
            if entry is None:
                return None
            self._touch(entry)
            entry.locks += 1
            return LoraLease(source, entry.weights, lambda: self._unlock(entry))

    def failures(self) -> list[tuple[Source, EngineError]]:
        """Sources that could not be read since the last call, mostly as `ModelUnavailable`.

        A source is tried again when it is wanted after its failure was delivered here.
        """
        with self._changed:
            failed, self._failed = self._failed, {}
            self._resting |= failed.keys()
            return list(failed.values())

    def used_bytes(self) -> int:
        """Bytes of all LoRAs in memory."""
        with self._changed:
            return sum(entry.weights.bytes for entry in self._entries.values())

    def close(self, timeout: float = 30.0) -> None:
        """Stop the thread, waiting up to `timeout` seconds, and drop everything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            self._entries.clear()

    def _touch(self, entry: _Entry) -> None:
        self._uses += 1
        entry.last_use = self._uses

    def _unlock(self, entry: _Entry) -> None:
        with self._changed:
            entry.locks -= 1
            self._shrink(0, is_first=False)
            self._changed.notify_all()

    def _serve(self) -> None:
        while (source := self._next()) is not None:
            self._read(source)
            if isinstance(error := caught(self._on_change), Exception):
                log.warning("on_change raised %r", as_engine_error(error))

    def _next(self) -> Source | None:
        with self._changed:
            while not self._closed:
                skip = self._entries.keys() | self._failed.keys() | self._resting
                for index, (key, source) in enumerate(self._wanted.items()):
                    if key not in skip and (index == 0 or self._has_room()):
                        return source
                self._changed.wait()
        return None

    def _has_room(self) -> bool:
        """Whether something less urgent may be read: only what nobody wants goes for it."""
        in_use = (e for key, e in self._entries.items() if e.locks or key in self._wanted)
        return sum(entry.weights.bytes for entry in in_use) < self._budget

    def _read(self, source: Source) -> None:
        outcome = attempt(lambda: read_lora(source, self._budget))
        with self._changed:
            if isinstance(outcome, EngineError):
                log.warning("%s", outcome)
                self._failed[_key(source)] = source, outcome
            elif not self._closed:
                self._shrink(outcome.bytes, is_first=next(iter(self._wanted), None) == _key(source))
                entry = self._entries[_key(source)] = _Entry(outcome, 0)
                self._touch(entry)

    def _shrink(self, needed: int, *, is_first: bool) -> None:
        """Evict what the budget asks for, as far as it goes."""
        items = [
            Item(key, entry.weights.bytes, on_device=True, locks=entry.locks, last_use=entry.last_use)
            for key, entry in self._entries.items()
        ]
        wanted = list(self._wanted)
        for key in device_victims(items, needed, self._budget, wanted, is_first=is_first) or []:
            del self._entries[key]


def _key(source: Source) -> Key:
    return source.location, "lora", source.digest
