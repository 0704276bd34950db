"""What the store's threads do next: pure decisions over a snapshot of what is in memory."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from gpu_worker.memory.budgets import Budgets, gib
from gpu_worker.memory.eviction import Item, device_victims, host_victims, room_at_best
from gpu_worker.memory.sources import Key


@dataclass(frozen=True, slots=True)
class Situation:
    """All a plan depends on. `line`: what should be on the device, most urgent first.

    `sizes`: bytes of models not read yet, as far as known. `skip`: failed or being read. `backed_off`: driven
    out for lack of memory, not to return before they are first. `to_stream`: to run from host memory.
    """

    items: Sequence[Item]
    line: Sequence[Key]
    budgets: Budgets
    two_tiers: bool
    sizes: Mapping[Key, int] = field(default_factory=dict)
    skip: Set[Key] = frozenset()
    backed_off: Set[Key] = frozenset()
    to_stream: Set[Key] = frozenset()


@dataclass(frozen=True, slots=True)
class Read:
    """Read `key` from disk after evicting `evict` (from the host where there are two tiers)."""

    key: Key
    evict: Sequence[Key] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """Bring `key` from the host to the device after taking `evict` off it."""

    key: Key
    evict: Sequence[Key] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """Let `key` run from host memory."""

    key: Key


@dataclass(frozen=True, slots=True)
class Misfit:
    """`key` can never fit; `reason` completes "the model …"."""

    key: Key
    reason: str


def next_read(now: Situation) -> Read | Misfit | None:
    """What to read from disk. The most urgent is read even if the host has no room: it passes through."""
    known = {item.key for item in now.items}
    for index, key in enumerate(now.line):
        if key in known or key in now.skip:
            continue
        if index > 0 and key in now.backed_off and not now.two_tiers:
            continue
        size = now.sizes.get(key, 0)
        if (reason := never_fits(now, key, size)) is not None:
            return Misfit(key, reason)
        is_first = index == 0
        if not now.two_tiers:
            evict = device_victims(now.items, size, now.budgets.device, now.line, is_first=is_first)
        else:
            evict = host_victims(now.items, size, now.budgets.host, now.line, is_first=is_first)
            if evict is None and is_first:
                evict = []
        if evict is not None:
            return Read(key, evict)
    return None


def next_copy(now: Situation) -> Copy | Stream | Misfit | None:
    """What to bring to the device, or to run from the host."""
    items = {item.key: item for item in now.items}
    for index, key in enumerate(now.line):
        item = items.get(key)
        if item is None or item.busy or item.streamed or key in now.skip:
            continue
        if (reason := never_fits(now, key, item.bytes)) is not None:
            return Misfit(key, reason)
        if _streams(now, item):
            if item.locks == 0:
                return Stream(key)
            continue
        if item.on_device or (index > 0 and key in now.backed_off):
            continue
        evict = device_victims(now.items, item.bytes, now.budgets.device, now.line, is_first=index == 0)
        if evict is not None:
            return Copy(key, evict)
    return None


def never_fits(now: Situation, key: Key, size: int) -> str | None:
    """Why a model of `size` bytes can run neither from the device nor from the host; None: it can."""
    room = room_at_best(now.items, now.budgets.device, key)
    if size <= room or (now.two_tiers and size <= now.budgets.host):
        return None
    pinned = now.budgets.device - room
    taken = f", {gib(pinned)} of it pinned" if pinned else ""
    return f"needs {gib(size)}, the device has {gib(now.budgets.device)} for models{taken}"


def held_up(now: Situation) -> list[Key]:
    """Who in the line waits for locked models: room would be there if those were released."""
    items = {item.key: item for item in now.items}
    released = [replace(item, locks=0) for item in now.items]
    waiting = []
    for key in now.line:
        item = items.get(key)
        size = item.bytes if item else now.sizes.get(key, 0)
        if key in now.skip or never_fits(now, key, size) is not None:
            continue
        if item is not None and (item.on_device or item.streamed or item.busy or _streams(now, item)):
            continue
        if _has_room(now, now.items, size) or not _has_room(now, released, size):
            continue
        waiting.append(key)
    return waiting


def _has_room(now: Situation, items: Sequence[Item], size: int) -> bool:
    return device_victims(items, size, now.budgets.device, now.line, is_first=True) is not None


def _streams(now: Situation, item: Item) -> bool:
    too_large = item.bytes > room_at_best(now.items, now.budgets.device, item.key)
    return now.two_tiers and (too_large or item.key in now.to_stream)
