"""The store's state: what is in memory, what is wanted, what failed. Knows no threads."""

from collections.abc import Iterable, Sequence

from gpu_worker.errors import EngineError
from gpu_worker.memory.budgets import Budgets
from gpu_worker.memory.eviction import Item, device_victims, host_excess
from gpu_worker.memory.plans import Situation
from gpu_worker.memory.residence import Entry
from gpu_worker.memory.sources import Key, key_of
from gpu_worker.request import ModelSource


class Shelf:
    """Every method is called with the store's lock held."""

    def __init__(self, budgets: Budgets, *, two_tiers: bool) -> None:
        self.budgets = budgets
        self.two_tiers = two_tiers
        self.entries: dict[Key, Entry] = {}
        self.pinned: dict[Key, ModelSource] = {}
        self.reading: set[Key] = set()
        self.backed_off: set[Key] = set()
        self.to_stream: set[Key] = set()
        self.sizes: dict[Key, int] = {}  # estimated; measured once read
        self._wanted: dict[Key, ModelSource] = {}  # most urgent first
        self._failed: dict[Key, tuple[ModelSource, EngineError]] = {}
        self._resting: set[Key] = set()  # failures delivered, not wanted again yet
        self._uses = 0

    def want(self, sources: Iterable[ModelSource]) -> bool:
        """Replace the wanted list. Whether that may change anything."""
        wanted = {key_of(source): source for source in sources}
        changed = list(wanted) != list(self._wanted) or bool(self._resting)
        self._wanted = wanted
        self._resting.clear()
        return changed

    def line(self) -> dict[Key, ModelSource]:
        """What should be in memory, most urgent first: what is wanted, then what is pinned."""
        return self._wanted | {key: source for key, source in self.pinned.items() if key not in self._wanted}

    def items(self) -> list[Item]:
        return [entry.item(entry.key in self.pinned) for entry in self.entries.values()]

    def situation(self) -> Situation:
        return Situation(
            items=self.items(),
            line=list(self.line()),
            budgets=self.budgets,
            two_tiers=self.two_tiers,
            sizes=self.sizes,
            skip=self.reading | self._failed.keys() | self._resting,
            backed_off=self.backed_off,
            to_stream=self.to_stream,
        )

    def is_first(self, key: Key) -> bool:
        return next(iter(self.line()), None) == key

    def add(self, entry: Entry) -> None:
        """A model that was just read: the latest use, or it would be the first to go."""
        self._uses += 1
        entry.last_use = self._uses
        self.entries[entry.key] = entry

    def use(self, entry: Entry) -> None:
        self._uses += 1
        entry.last_use = self._uses
        entry.locks += 1

    def is_ready(self, entry: Entry) -> bool:
        """Whether it can run now."""
        if entry.busy:
            return False
        if entry.weights is None or entry.streamed:
            return True
        return entry.weights.on_device and entry.key not in self.to_stream

    def fail(self, source: ModelSource, error: EngineError) -> None:
        self._failed[key_of(source)] = source, error

    def take_failures(self) -> list[tuple[ModelSource, EngineError]]:
        failed, self._failed = self._failed, {}
        self._resting |= failed.keys()
        return list(failed.values())

    def by_use(self) -> list[Entry]:
        return sorted(self.entries.values(), key=lambda entry: entry.last_use)

    def leave_host(self, keys: Sequence[Key]) -> list[Entry]:
        """Drop host copies. Returns the entries that are gone with it, for the caller to free."""
        gone = []
        for key in keys:
            entry = self.entries[key]
            if entry.weights is not None and entry.weights.on_device and not entry.streamed:
                entry.weights.drop_host()
            else:
                gone.append(self.entries.pop(key))
        return gone

    def trim_for(self, entry: Entry) -> list[Entry] | None:
        """Make room for what was just read; see `leave_host`. None: there is none, and it cannot stay."""
        self.sizes[entry.key] = entry.bytes
        if self.two_tiers:
            return self.trim_host(entry.bytes)
        line, is_first = list(self.line()), self.is_first(entry.key)
        keys = device_victims(self.items(), entry.bytes, self.budgets.device, line, is_first=is_first)
        return None if keys is None else [self.entries.pop(key) for key in keys]

    def trim_host(self, needed: int = 0) -> list[Entry]:
        """Come back to the host's budget as far as nobody wanted or locked is hit; see `leave_host`."""
        budget = self.budgets.host - needed
        return self.leave_host(host_excess(self.items(), budget, list(self.line())))
