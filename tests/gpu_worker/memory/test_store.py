"""The store: two tiers in the background, leases, failures, a clean end."""

import gc
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_worker.errors import ModelUnavailable, OutOfMemory
from gpu_worker.memory import digest_of
from gpu_worker.memory.faults import FaultyAllocator, Use
from gpu_worker.memory.transfers import PlainTransfer
from gpu_worker.pipelines import load
from gpu_worker.request import ModelSource
from tests.gpu_worker.memory.bench import UNIT, FakeLoader, MakeBench, model

both = pytest.mark.parametrize("two_tiers", [True, False], ids=["two tiers", "one tier"])


@both
def test_a_wanted_model_comes_and_tells_its_size(make_bench: MakeBench, two_tiers: bool) -> None:
    bench = make_bench(two_tiers=two_tiers)
    assert bench.store.lease(model("a", 3)) is None
    with bench.get(model("a", 3)) as lease:
        assert lease.source.slug == "a"
        (resident,) = bench.store.residents()
        assert (resident.bytes, resident.locks, resident.on_device) == (3 * UNIT, 1, True)
        assert resident.on_host is two_tiers
    assert bench.store.residents()[0].locks == 0


@both
def test_the_oldest_use_makes_room(make_bench: MakeBench, two_tiers: bool) -> None:
    bench = make_bench(device=10, host=20, two_tiers=two_tiers)
    for name in "ab":
        bench.get(model(name, 4)).release()
    bench.get(model("a", 4)).release()
    bench.get(model("c", 4)).release()
    assert set(bench.names()) == {"a", "c"}
    assert ("b" in bench.names("on_host")) is two_tiers


@both
def test_locked_and_pinned_models_stay(make_bench: MakeBench, two_tiers: bool) -> None:
    bench = make_bench(device=10, two_tiers=two_tiers)
    bench.store.pin(model("p", 3))
    bench.until(lambda: bench.names() == ["p"])
    with bench.get(model("a", 4)):
        assert bench.store.evict_unlocked() == 0
        assert set(bench.names()) == {"p", "a"}
        bench.store.want([])
    assert bench.store.evict_unlocked() == 4 * UNIT
    assert bench.names() == ["p"]
    bench.store.unpin(model("p", 3))
    assert bench.store.evict_unlocked() == 3 * UNIT


def test_a_lock_counts(make_bench: MakeBench) -> None:
    bench = make_bench()
    first, second = bench.get(model("a")), bench.get(model("a"))
    first.release()
    first.release()
    assert bench.store.residents()[0].locks == 1
    second.release()
    assert bench.store.residents()[0].locks == 0


def test_weights_survive_eviction_and_move_to_new_addresses(make_bench: MakeBench) -> None:
    bench = make_bench(device=10)
    with bench.get(model("a", 4)) as lease:
        before, epoch = lease.pipe.layer.weight.clone(), lease.epoch
    bench.get(model("b", 8)).release()
    assert bench.names() == ["b"]
    with bench.get(model("a", 4)) as lease:
        assert torch.equal(lease.pipe.layer.weight, before)
        assert lease.epoch == epoch + 1


def test_what_waits_next_is_prefetched_beside_a_locked_model(
    make_bench: MakeBench, loader: FakeLoader
) -> None:
    bench = make_bench(device=10, host=20)
    a, b, c = model("a", 6), model("b", 4), model("c", 6)
    with bench.get(a, b, c):
        bench.until(lambda: set(bench.names("on_host")) == {"a", "b", "c"})
        bench.until(lambda: set(bench.names()) == {"a", "b"})
        bench.store.want([c, a])
        assert bench.until(bench.store.held_up) == [c]
        assert bench.store.lease(c) is None
    bench.until(lambda: "c" in bench.names())
    assert loader.loaded == ["a", "b", "c"]


def test_a_model_in_host_memory_need_not_wait_for_a_file(make_bench: MakeBench, loader: FakeLoader) -> None:
    bench = make_bench(device=10)
    bench.get(model("a", 6)).release()
    bench.get(model("b", 6)).release()
    loader.gate.clear()
    bench.get(model("a", 6), model("slow", 2)).release()
    assert bench.names() == ["a"]


def test_a_full_host_drops_spare_copies_first(make_bench: MakeBench) -> None:
    bench = make_bench(device=10, host=10)
    bench.get(model("a", 6)).release()
    bench.get(model("b", 4), model("a", 6)).release()
    bench.get(model("c", 4)).release()  # the device must give up the oldest
    assert bench.names("on_host") != []
    assert sum(r.bytes for r in bench.store.residents() if r.on_host) <= 10 * UNIT
    assert sum(r.bytes for r in bench.store.residents() if r.on_device) <= 10 * UNIT


def test_a_model_larger_than_the_host_passes_through(make_bench: MakeBench) -> None:
    bench = make_bench(device=10, host=4)
    with bench.get(model("a", 8)):
        assert bench.names() == ["a"]
        assert bench.names("on_host") == []
    bench.store.want([])
    bench.store.evict_unlocked()
    assert bench.store.residents() == ()


@both
def test_a_model_that_can_never_fit_is_reported_once_per_want(make_bench: MakeBench, two_tiers: bool) -> None:
    bench = make_bench(device=2, host=2, two_tiers=two_tiers)
    huge = model("huge", 5)
    bench.store.want([huge])
    ((source, error),) = bench.until(bench.store.failures)
    assert source == huge
    assert isinstance(error, ModelUnavailable)
    assert "'huge' needs 0.0 MiB, the device has 0.0 MiB" in str(error)
    assert bench.store.failures() == []
    bench.store.want([huge])
    assert bench.until(bench.store.failures)


@both
def test_a_failure_hits_its_source_only(make_bench: MakeBench, loader: FakeLoader, two_tiers: bool) -> None:
    loader.broken = {
        "bad": ModelUnavailable("broken"),
        "worse": MemoryError(),
        "odd": RuntimeError("?"),
    }
    bench = make_bench(two_tiers=two_tiers)
    wanted = [model("bad"), model("worse"), model("odd"), model("good")]
    bench.store.want(wanted)
    bench.until(lambda: bench.store.lease(model("good")))
    codes = {source.slug: error.code for source, error in bench.store.failures()}
    assert codes == {"bad": "MODEL_UNAVAILABLE", "worse": "OUT_OF_MEMORY", "odd": "GENERATION_FAILED"}
    assert loader.loaded.count("bad") == 1
    loader.broken.clear()
    bench.store.want(wanted)
    assert bench.until(lambda: bench.store.lease(model("bad")))


def test_out_of_memory_on_the_way_to_the_device(make_bench: MakeBench) -> None:
    allocator = FaultyAllocator(lambda use: True)
    plain = PlainTransfer(torch.device("cpu"))
    bench = make_bench(transfer=allocator.sending(plain))
    bench.store.want([model("a", 4), model("next", 4)])
    ((source, error),) = bench.until(bench.store.failures)
    assert (source.slug, type(error)) == ("a", OutOfMemory)
    allocator.refuses = lambda use: False
    with bench.get(model("a", 4)) as lease:
        assert lease.pipe.layer.weight.shape == (4, UNIT // 4)
    assert allocator.refused[0] == Use("load", 1)


def test_evicted_models_stay_away_until_they_are_first(make_bench: MakeBench) -> None:
    bench = make_bench(device=10)
    a, b = model("a", 4), model("b", 4)
    with bench.get(a, b):
        bench.until(lambda: len(bench.names()) == 2)
        assert bench.store.evict_unlocked(1) == 4 * UNIT
        bench.store.want([a, b, model("c", 1)])
        bench.until(lambda: "c" in bench.names())
        assert "b" not in bench.names()
        bench.get(b, a).release()
    assert set(bench.names()) == {"a", "b", "c"}


def test_a_model_too_large_for_the_device_runs_from_the_host(
    make_bench: MakeBench, source: ModelSource, sd_folder: Path
) -> None:
    bench = make_bench(device=2, host=10_000, loader=load)
    with bench.get(source) as lease:
        (resident,) = bench.store.residents()
        assert (resident.streamed, resident.on_device) == (True, False)
        assert _draw(lease.pipe).equal(_draw(load(source, torch.float32)))


def test_offloading_takes_hold_with_the_next_lease(make_bench: MakeBench, source: ModelSource) -> None:
    bench = make_bench(device=10_000, host=10_000, loader=load)
    with bench.get(source) as lease:
        expected = _draw(lease.pipe)
        bench.store.offload(source)
        assert bench.store.lease(source) is None
        assert bench.names() == ["random-sd"]
    with bench.get(source) as lease:
        assert bench.names("streamed") == ["random-sd"]
        assert _draw(lease.pipe).equal(expected)


def _draw(pipe: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    latents: torch.Tensor = pipe(
        "ring", num_inference_steps=2, height=64, width=64, generator=generator, output_type="latent"
    ).images
    return latents


def test_the_files_are_checked(make_bench: MakeBench, source: ModelSource, sd_folder: Path) -> None:
    bench = make_bench(device=10_000, two_tiers=False, loader=load)
    right = replace(source, digest=digest_of(str(sd_folder)).upper())
    bench.get(right).release()
    bench.store.want([replace(source, digest="0" * 64)])
    ((_, error),) = bench.until(bench.store.failures)
    assert isinstance(error, ModelUnavailable)
    assert "'random-sd' cannot be loaded: its files are not those expected" in str(error)


@both
def test_a_dropped_model_leaves_no_tensor_behind(make_bench: MakeBench, two_tiers: bool) -> None:
    bench = make_bench(device=10, host=10, two_tiers=two_tiers)
    lease = bench.get(model("a", 4))
    weight, pipe = weakref.ref(lease.pipe.layer.weight), weakref.ref(lease.pipe)
    lease.release()
    del lease
    bench.get(model("b", 10)).release()
    bench.store.want([])
    bench.store.evict_unlocked()
    gc.collect()
    if not two_tiers:
        assert weight() is None
        assert pipe() is None
    bench.store.close()
    gc.collect()
    assert weight() is None


def test_close_waits_for_a_load_and_ends_the_threads(make_bench: MakeBench, loader: FakeLoader) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    bench = make_bench()
    loader.gate.clear()
    bench.store.want([model("a")])
    closing = threading.Thread(target=bench.store.close)
    closing.start()
    loader.gate.set()
    closing.join(10)
    assert {thread.ident for thread in threading.enumerate()} <= before
    assert bench.store.residents() == ()
    assert bench.store.lease(model("a")) is None


def test_a_broken_callback_does_not_end_the_thread(make_bench: MakeBench) -> None:
    calls = 0
    second = threading.Event()

    def on_change() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            second.set()
        raise RuntimeError("the caller's own")

    make_bench(on_change=on_change).store.want([model("a"), model("b")])
    assert second.wait(10)


def test_a_model_larger_than_its_files_said_waits_for_room(make_bench: MakeBench, loader: FakeLoader) -> None:
    bench = make_bench(device=10, two_tiers=False)
    a, b = model("a", 6), model("b", 6)
    with bench.get(a, b):
        bench.until(lambda: bench.store.held_up() == [b])
        assert bench.names() == ["a"]
    bench.get(b).release()
    assert loader.loaded == ["a", "b", "b"]


def test_an_adapter_left_on_the_device_comes_along(make_bench: MakeBench) -> None:
    bench = make_bench(device=10)
    with bench.get(model("a", 4)) as lease:
        lease.pipe.layer.adapter = torch.nn.Linear(2, 2)
    bench.store.want([])
    assert bench.store.evict_unlocked() == 4 * UNIT
    with bench.get(model("a", 4)) as lease:
        assert lease.pipe.layer.adapter.weight.shape == (2, 2)


def test_evicting_in_inference_mode_leaves_ordinary_tensors(make_bench: MakeBench) -> None:
    bench = make_bench(device=10)
    bench.get(model("a", 4)).release()
    with torch.inference_mode():
        bench.store.want([])
        bench.store.evict_unlocked()
    with bench.get(model("a", 4)) as lease:
        assert not lease.pipe.layer.weight.is_inference()
        lease.pipe.layer(torch.ones(1, UNIT // 4)).sum().backward()
