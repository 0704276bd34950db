"""One model in memory, as the store keeps it, as it is lent out, and as it is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from gpu_worker.memory.eviction import Item
from gpu_worker.memory.sources import Key
from gpu_worker.memory.weights import Weights
from gpu_worker.pipelines import LoadedModel
from gpu_worker.request import ModelSource


@dataclass(frozen=True, slots=True)
class Resident:
    """One model at a moment: `bytes` of its weights, where they are, and who holds on to them.

    `streamed`: it runs from host memory, layer by layer. A higher `last_use` is more recent.
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
        """Give the model back; again is harmless. From the thread that gave the device its last work."""
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
class Entry:
    """A model in the store. All but the tensors is guarded by the store's lock.

    `weights` is None where device and host are one memory. While `busy`, a thread moves the tensors and
    nobody else touches them. `settle` waits until the device has done what it was last given.
    """

    key: Key
    model: LoadedModel
    bytes: int
    weights: Weights | None
    settle: Callable[[], None]
    locks: int = 0
    last_use: int = 0
    epoch: int = 0
    busy: bool = False
    streamed: bool = False

    def item(self, pinned: bool) -> Item:
        """What plans see of it."""
        return Item(
            key=self.key,
            bytes=self.bytes,
            on_device=self.weights is None or self.weights.on_device,
            on_host=self.weights is not None and self.weights.on_host,
            streamed=self.streamed,
            locks=self.locks,
            pinned=pinned,
            busy=self.busy,
            last_use=self.last_use,
        )

    def resident(self, pinned: bool) -> Resident:
        """What everybody else sees of it."""
        item = self.item(pinned)
        return Resident(
            source=self.model.source,
            bytes=item.bytes,
            on_device=item.on_device,
            on_host=item.on_host,
            streamed=item.streamed,
            locks=item.locks,
            pinned=pinned,
            last_use=item.last_use,
        )
