"""Who stays in memory and who goes: pure decisions over a snapshot.

A model's weights may be on the device, in host memory, or both (then leaving the device costs nothing). Where
device and host are one memory, everything counts as on the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpu_worker.memory.sources import Key


@dataclass(frozen=True, slots=True)
class Item:
    """One model: `bytes` of weights; a higher `last_use` is more recent; `busy`: being moved right now.

    `streamed` runs from host memory and takes no lasting room on the device.
    """

    key: Key
    bytes: int
    on_device: bool = False
    on_host: bool = False
    streamed: bool = False
    locks: int = 0
    pinned: bool = False
    busy: bool = False
    last_use: int = 0

    @property
    def held(self) -> bool:
        return self.locks > 0 or self.pinned or self.busy

    @property
    def is_spare(self) -> bool:
        """Its host copy is not what runs, so that it may go whoever uses the model."""
        return self.on_host and self.on_device and not self.streamed and not self.busy


def device_bytes(items: Sequence[Item]) -> int:
    """Bytes of weights on the device."""
    return sum(item.bytes for item in items if item.on_device)


def host_bytes(items: Sequence[Item]) -> int:
    """Bytes of weights in host memory."""
    return sum(item.bytes for item in items if item.on_host)


def room_at_best(items: Sequence[Item], budget: int, key: Key) -> int:
    """Bytes the device could ever give to `key`: the budget less what others have pinned."""
    return budget - sum(i.bytes for i in items if i.pinned and i.on_device and i.key != key)


def device_victims(
    items: Sequence[Item], needed: int, budget: int, wanted: Sequence[Key], *, is_first: bool
) -> list[Key] | None:
    """Whom to take off the device so that `needed` more bytes fit into `budget`; None: impossible now.

    Nobody locked, pinned or busy goes. First those that nobody wants, the oldest use first; then, for the
    `is_first` in line only, those wanted least.
    """
    candidates = [item for item in items if item.on_device and not item.held]
    order = _order(candidates, wanted, is_first)
    return _enough(order, device_bytes(items) + needed - budget)


def host_victims(
    items: Sequence[Item], needed: int, budget: int, wanted: Sequence[Key], *, is_first: bool
) -> list[Key] | None:
    """Whose host copies to drop so that `needed` more bytes fit into `budget`; None: impossible now.

    Spare copies of models on the device go first; then models that would be gone, by the rules of
    `device_victims`.
    """
    spare = sorted((item for item in items if item.is_spare), key=_use)
    others = [item for item in items if item.on_host and not item.is_spare and not item.held]
    order = [*spare, *_order(others, wanted, is_first)]
    return _enough(order, host_bytes(items) + needed - budget)


def host_excess(items: Sequence[Item], budget: int, wanted: Sequence[Key]) -> list[Key]:
    """Whose host copies to drop to come back to `budget`, or as near as that goes; nobody wanted goes."""
    spare = sorted((item for item in items if item.is_spare), key=_use)
    others = [item for item in items if item.on_host and not item.is_spare and not item.held]
    excess = host_bytes(items) - budget
    chosen = []
    for item in [*spare, *_order(others, wanted, is_first=False)]:
        if excess > 0:
            chosen.append(item.key)
            excess -= item.bytes
    return chosen


def free_up(items: Sequence[Item], needed: int | None) -> list[Key]:
    """Whom to take off the device to gain `needed` bytes, or as many as can be had; None: everybody free."""
    candidates = sorted((item for item in items if item.on_device and not item.held), key=_use)
    if needed is None:
        return [item.key for item in candidates]
    enough = _enough(candidates, needed)
    return [item.key for item in candidates] if enough is None else enough


def _order(candidates: Sequence[Item], wanted: Sequence[Key], is_first: bool) -> list[Item]:
    rank = {key: index for index, key in reversed(list(enumerate(wanted)))}
    unwanted = sorted((item for item in candidates if item.key not in rank), key=_use)
    if not is_first:
        return unwanted
    by_rank: Callable[[Item], int] = lambda item: -rank[item.key]  # noqa: E731
    return [*unwanted, *sorted((item for item in candidates if item.key in rank), key=by_rank)]


def _enough(order: Sequence[Item], excess: int) -> list[Key] | None:
    """The first of `order` that together free `excess` bytes, without those that turn out not to matter."""
    chosen: list[Item] = []
    freed = 0
    for item in order:
        if freed >= excess:
            break
        chosen.append(item)
        freed += item.bytes
    if freed < excess:
        return None
    for item in list(reversed(chosen)):  # a large one came last: smaller, more valuable ones may stay
        if freed - item.bytes >= excess:
            chosen.remove(item)
            freed -= item.bytes
    return [item.key for item in chosen]


def _use(item: Item) -> int:
    return item.last_use
