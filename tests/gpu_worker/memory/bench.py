"""Pipelines of a chosen size, and waiting for a store without sleeping."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from gpu_worker.devices import Placement
from gpu_worker.memory import Budgets, Lease, ModelStore
from gpu_worker.memory.transfers import PlainTransfer
from gpu_worker.request import ModelSource

T = TypeVar("T")
CPU = Placement(torch.device("cpu"), torch.float32)
UNIT = 4096  # bytes of a model of size 1


class FakePipe:
    """`size` units of weights in one module."""

    scheduler = None

    def __init__(self, size: int) -> None:
        self.layer = torch.nn.Linear(UNIT // 4, size, bias=False)
        self.components = {"unet": self.layer, "tokenizer": None}

    def __call__(self, prompt: str) -> None: ...

    def to(self, device: torch.device) -> None:
        self.layer.to(device)


def model(name: str, size: int = 1) -> ModelSource:
    """A source for `FakeLoader`: the location tells the size."""
    return ModelSource(slug=name, location=f"{name}:{size}", family="fake")


class FakeLoader:
    """Makes pipelines; `gate` can hold it back, `broken` maps a slug to what it raises."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.broken: dict[str, Exception] = {}
        self.loaded: list[str] = []

    def __call__(self, source: ModelSource, dtype: torch.dtype) -> Any:
        assert self.gate.wait(10)
        self.loaded.append(source.slug)
        if source.slug in self.broken:
            raise self.broken[source.slug]
        return FakePipe(int(source.location.split(":")[1]))


class News:
    """What happens in other threads, waited for without sleeping."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def until(self, look: Callable[[], T]) -> T:
        """What `look` returns once it is true."""
        end = time.monotonic() + 10
        with self._changed:
            while not (found := look()):
                assert self._changed.wait(end - time.monotonic()), "nothing happened"
        return found


class Bench(News):
    """A store under test."""

    def __init__(self, loader: Any, device: int, host: int, *, two_tiers: bool, **options: Any) -> None:
        super().__init__()
        options.setdefault("transfer", PlainTransfer(CPU.device) if two_tiers else None)
        options.setdefault("on_change", self.tell)
        self.store = ModelStore(CPU, Budgets(device=device, host=host), loader, **options)

    def get(self, *sources: ModelSource) -> Lease:
        """A lease of the first of `sources`, which are wanted in this order."""
        self.store.want(sources)
        lease = self.until(lambda: self.store.lease(sources[0]))
        assert lease is not None
        return lease

    def names(self, tier: str = "on_device") -> list[str]:
        return [r.source.slug for r in self.store.residents() if getattr(r, tier)]


MakeBench = Callable[..., Bench]
