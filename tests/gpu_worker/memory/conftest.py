"""Stores under test, closed afterwards."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gpu_worker.memory.bench import UNIT, Bench, FakeLoader, MakeBench


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """The libraries' own objects are most of the heap; collections leave them out here."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
def make_bench(loader: FakeLoader) -> Iterator[MakeBench]:
    """`device` and `host` in units."""
    benches: list[Bench] = []

    def make(
        device: float = 10, host: float = 20, *, two_tiers: bool = True, loader: Any = loader, **options: Any
    ) -> Bench:
        bench = Bench(loader, int(device * UNIT), int(host * UNIT), two_tiers=two_tiers, **options)
        benches.append(bench)
        return bench

    yield make
    loader.gate.set()
    for bench in benches:
        bench.store.close()
