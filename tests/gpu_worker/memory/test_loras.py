"""LoRA files: what is read, what is refused, who stays."""

import gc
import hashlib
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gpu_worker.errors import EngineError, ModelUnavailable
from gpu_worker.memory import LoraStore
from gpu_worker.memory.lora_files import read_lora
from gpu_worker.request import ModelSource
from tests.gpu_worker.memory.bench import News

KEY = "unet.down_blocks.0.attentions.0.to_q"
Write = Callable[..., ModelSource]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str = "a", *, rank: int = 4, down: str = "lora_A.weight", **more: Any) -> ModelSource:
        file = tmp_path / f"{name}.safetensors"
        tensors = {f"{KEY}.{down}": torch.ones(rank, 64), f"{KEY}.lora_B.weight": torch.ones(64, rank)}
        save_file({**tensors, **more}, file, metadata={"ss_network_dim": str(rank)})
        return ModelSource(name, str(file), "lora")

    return write


@pytest.fixture
def open_store() -> Iterator[Callable[[int], tuple[LoraStore, News]]]:
    stores: list[LoraStore] = []

    def make(budget: int) -> tuple[LoraStore, News]:
        news = News()
        stores.append(LoraStore(budget, on_change=news.tell))
        return stores[-1], news

    yield make
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    "down", ["lora_A.weight", "lora_down.weight", "lora.down.weight", "processor.to_q_lora.down.weight"]
)
def test_facts(write: Write, down: str) -> None:
    weights = read_lora(write(rank=8, down=down), 10**6)
    assert weights.ranks == (8,)
    assert weights.bytes == 2 * 8 * 64 * 4
    assert weights.metadata["ss_network_dim"] == "8"
    assert f"{KEY}.{down}" in weights.state_dict


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.dora_scale", "DoRA"),
        ("x.lora_magnitude_vector", "DoRA"),
        ("x.hada_w1_a", "LoHa"),
        ("x.lokr_w1", "LoKr"),
    ],
)
def test_other_kinds_are_named(write: Write, name: str, kind: str) -> None:
    with pytest.raises(ModelUnavailable, match=f"'a' cannot be loaded: it is a {kind}"):
        read_lora(write(**{name: torch.ones(1)}), 10**6)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("the pickle ran",)

    for name in ("a.pt", "a.bin", "a.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ModelUnavailable, match=r"only safetensors|broken"):
            read_lora(ModelSource("a", str(tmp_path / name), "lora"), 10**6)


def test_what_else_is_refused(write: Write, tmp_path: Path) -> None:
    good = write()
    with pytest.raises(ModelUnavailable, match=r"needs .* there is room for"):
        read_lora(good, 100)
    with pytest.raises(ModelUnavailable, match="missing"):
        read_lora(ModelSource("a", str(tmp_path / "none.safetensors"), "lora"), 100)
    with pytest.raises(ModelUnavailable, match="not the one expected"):
        read_lora(ModelSource("a", good.location, "lora", "0" * 64), 10**6)
    save_file({"x": torch.ones(1)}, tmp_path / "b.safetensors")
    with pytest.raises(ModelUnavailable, match="holds no LoRA"):
        read_lora(ModelSource("a", str(tmp_path / "b.safetensors"), "lora"), 10**6)


def test_the_right_digest(write: Write) -> None:
    good = write()
    digest = hashlib.sha256(Path(good.location).read_bytes()).hexdigest()
    assert read_lora(ModelSource("a", good.location, "lora", digest.upper()), 10**6).ranks == (4,)


SIZE = 2 * 4 * 64 * 4  # bytes of one


def test_the_oldest_use_goes_and_locked_ones_stay(write: Write, open_store: Any) -> None:
    store, news = open_store(2 * SIZE + 600)  # a file has a header
    a, b, c = write("a"), write("b"), write("c")
    store.want([a])
    lease = news.until(lambda: store.lease(a))
    store.want([b])
    news.until(lambda: store.lease(b)).release()
    store.want([c])
    with news.until(lambda: store.lease(c)):
        assert store.lease(b) is None
        assert store.used_bytes() == 2 * SIZE
    lease.release()
    store.want([b, c])
    news.until(lambda: store.lease(b)).release()
    assert store.lease(a) is None


def test_what_is_wanted_less_waits_for_room(write: Write, open_store: Any) -> None:
    store, news = open_store(2 * SIZE)
    sources = [write(name) for name in "abcd"]
    store.want(sources)
    news.until(lambda: store.used_bytes() == 2 * SIZE)
    store.want([sources[3], *sources[:3]])
    news.until(lambda: store.lease(sources[3])).release()
    assert store.used_bytes() == 2 * SIZE


def test_failures_and_another_try(write: Write, open_store: Any, tmp_path: Path) -> None:
    store, news = open_store(10 * SIZE)
    late = ModelSource("late", str(tmp_path / "late.safetensors"), "lora")
    store.want([late, write("a")])
    news.until(lambda: store.lease(write("a")))
    ((source, error),) = store.failures()
    assert source is late
    assert isinstance(error, EngineError)
    assert not error.retryable
    write("late")
    store.want([late])
    assert news.until(lambda: store.lease(late))


def test_an_evicted_lora_is_gone(write: Write, open_store: Any) -> None:
    store, news = open_store(SIZE + 600)
    a, b = write("a"), write("b")
    store.want([a])
    lease = news.until(lambda: store.lease(a))
    tensor = weakref.ref(next(iter(lease.weights.state_dict.values())))
    lease.release()
    del lease
    store.want([b])
    news.until(lambda: store.lease(b)).release()
    gc.collect()
    assert tensor() is None
