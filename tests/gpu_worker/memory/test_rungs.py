"""Every rung on a real pipeline, with an allocator that gives up where it is told to."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gpu_worker.errors import EngineError, OutOfMemory
from gpu_worker.memory import Lease, Measures, Recovery, Rung, SizeKey, Stage, apply, attempt, decoding
from gpu_worker.memory.faults import FaultyAllocator, Use
from gpu_worker.memory.rungs import tile_edge
from gpu_worker.memory.transfers import PlainTransfer
from gpu_worker.pipelines import load
from gpu_worker.request import ModelSource
from tests.gpu_worker.memory.bench import Bench, FakeLoader, MakeBench, model


class Loop:
    """A few lines of an engine: rows through the denoiser and pictures through the decoder."""

    def __init__(self, bench: Bench, source: ModelSource, allocator: FaultyAllocator) -> None:
        self.bench = bench
        self.source = source
        self.allocator = allocator
        self.recovery = Recovery(can_offload=True)
        self.rungs: list[Rung] = []
        self.inside: list[weakref.ref[torch.Tensor]] = []

    def denoise(self, rows: int, edge: int = 8) -> list[tuple[int, ...] | EngineError]:
        """Shapes of what came out, batch by batch, or the error of the request in it."""

        def run(pipe: Any, now: int) -> tuple[int, ...]:
            latents = torch.randn(now, 4, edge, edge)
            self.inside.append(weakref.ref(latents))
            text = torch.zeros(now, 16, 32)
            return tuple(pipe.unet(latents, torch.tensor(5), text).sample.shape)

        return self._all(rows, "denoise", edge, run)

    def decode(self, pictures: int, edge: int = 8) -> list[tuple[int, ...] | EngineError]:
        key = self.key(edge)

        def run(pipe: Any, now: int) -> tuple[int, ...]:
            with decoding(pipe, self.recovery.measures(key), key.width, key.height):
                return tuple(pipe.vae.decode(torch.randn(now, 4, edge, edge)).sample.shape)

        return self._all(pictures, "decode", edge, run)

    def key(self, edge: int) -> SizeKey:
        return SizeKey(self.source, 8 * edge, 8 * edge)

    def _all(
        self, rows: int, stage: Stage, edge: int, run: Callable[[Any, int], tuple[int, ...]]
    ) -> list[tuple[int, ...] | EngineError]:
        key, results = self.key(edge), []
        while rows:
            now = min(rows, self.recovery.row_limit(key, stage) or rows)
            outcome = self._attempt(run, now)
            if not isinstance(outcome, EngineError):
                self.recovery.fitted(key, now, stage)
            else:
                decision = self.recovery.after_oom(key, now, stage)
                self.rungs.append(decision.rung)
                apply(decision, key, self.bench.store)
                if decision.rung is not Rung.FAIL:
                    continue
            results.append(outcome)
            rows -= now
        return results

    def _attempt(self, run: Callable[[Any, int], tuple[int, ...]], now: int) -> tuple[int, ...] | EngineError:
        with self._lease() as lease, self.allocator.on(lease.pipe), torch.no_grad():
            return attempt(lambda: run(lease.pipe, now))

    def _lease(self) -> Lease:
        return self.bench.get(self.source)


@pytest.fixture
def allocator() -> FaultyAllocator:
    return FaultyAllocator(lambda use: False)


@pytest.fixture
def bench(make_bench: MakeBench) -> Bench:
    def either(source: ModelSource, dtype: torch.dtype) -> Any:
        return FakeLoader()(source, dtype) if source.family == "fake" else load(source, dtype)

    return make_bench(device=10_000, host=10_000, loader=either)


@pytest.fixture
def loop(bench: Bench, source: ModelSource, allocator: FaultyAllocator) -> Loop:
    return Loop(bench, source, allocator)


def test_first_the_models_nobody_uses(loop: Loop) -> None:
    loop.bench.get(model("other", 5)).release()
    loop.allocator.refuses = lambda use: "other" in loop.bench.names()
    assert loop.denoise(8) == [(8, 4, 8, 8)]
    assert loop.rungs == [Rung.FREE]
    assert "other" in loop.bench.names("on_host")


def test_then_half_the_rows(loop: Loop) -> None:
    loop.allocator.refuses = lambda use: use.stage == "denoise" and use.rows > 2
    assert loop.denoise(8) == [(2, 4, 8, 8)] * 4
    assert loop.rungs == [Rung.FREE, Rung.HALVE, Rung.HALVE]
    assert [use.rows for use in loop.allocator.refused] == [8, 8, 4]
    assert loop.denoise(4) == [(2, 4, 8, 8)] * 2  # remembered
    assert len(loop.allocator.refused) == 3


def test_a_picture_that_decodes_in_tiles_only(loop: Loop) -> None:
    loop.allocator.refuses = lambda use: use.stage == "decode" and use.edge > 16
    assert loop.decode(2, edge=32) == [(1, 3, 256, 256)] * 2
    assert loop.rungs == [Rung.FREE, Rung.HALVE, Rung.TILE]
    with loop.bench.get(loop.source) as lease:
        assert lease.pipe.vae.use_tiling is False
    assert loop.decode(1, edge=8) == [(1, 3, 64, 64)]


def test_weights_that_must_stay_on_the_host(loop: Loop) -> None:
    loop.allocator.refuses = lambda use: not loop.bench.names("streamed")
    assert loop.denoise(2) == [(1, 4, 8, 8)] * 2
    assert loop.rungs == [Rung.FREE, Rung.HALVE, Rung.OFFLOAD]


def test_a_request_that_fits_nowhere_fails_alone(loop: Loop) -> None:
    loop.allocator.refuses = lambda use: use.edge > 8
    (failed,) = loop.denoise(1, edge=16)
    assert isinstance(failed, OutOfMemory)
    assert failed.retryable
    assert loop.rungs == [Rung.FREE, Rung.OFFLOAD, Rung.FAIL]
    assert loop.denoise(3) == [(3, 4, 8, 8)]


def test_everything_refused_and_then_granted_again(loop: Loop) -> None:
    loop.allocator.refuses = lambda use: True
    outcomes = [*loop.denoise(2), *loop.decode(1)]
    assert all(isinstance(outcome, OutOfMemory) for outcome in outcomes)
    assert len(outcomes) == 3
    loop.allocator.refuses = lambda use: False
    assert loop.denoise(2) == [(1, 4, 8, 8)] * 2
    assert loop.decode(1) == [(1, 3, 64, 64)]


def test_no_tensor_stays_after_recovery(loop: Loop) -> None:
    loop.allocator.refuses = lambda use: use.rows > 1
    gc.disable()
    try:
        loop.denoise(4)
        assert [tensor() for tensor in loop.inside] == [None] * len(loop.inside)
        assert len(loop.inside) == 7
    finally:
        gc.enable()


def test_a_model_that_cannot_be_brought_to_the_device(make_bench: MakeBench, source: ModelSource) -> None:
    allocator = FaultyAllocator(lambda use: use.stage == "load")
    transfer = allocator.sending(PlainTransfer(torch.device("cpu")))
    bench = make_bench(device=10_000, host=10_000, loader=load, transfer=transfer)
    recovery, key, rungs = Recovery(can_offload=True), SizeKey(source, 64, 64), []
    for _ in range(2):
        bench.store.want([source])
        ((failed, error),) = bench.until(bench.store.failures)
        assert failed is source
        assert isinstance(error, OutOfMemory)
        decision = recovery.after_oom(key, 1, "load")
        rungs.append(decision.rung)
        apply(decision, key, bench.store)
    assert rungs == [Rung.FREE, Rung.OFFLOAD]
    with bench.get(source):
        assert bench.names("streamed") == ["random-sd"]


@pytest.mark.parametrize(
    ("width", "height", "edge"), [(2048, 512, 512), (1024, 1024, 512), (768, 512, 384), (64, 64, 256)]
)
def test_tiles_are_smaller_than_the_picture(width: int, height: int, edge: int) -> None:
    assert tile_edge(width, height) == edge


def test_an_autoencoders_own_large_tile_is_cut(source: ModelSource) -> None:
    pipe = load(source, torch.float32)
    pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = 1024, 128
    with decoding(pipe, Measures(tiled=True), 1024, 768):
        assert (pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size) == (512, 64)
        assert pipe.vae.use_tiling
    assert (pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size) == (1024, 128)
    assert not pipe.vae.use_tiling
    with decoding(object(), Measures(tiled=True), 64, 64):
        pass  # it knows no tiles


def test_text_encoders_ask_as_well(source: ModelSource, allocator: FaultyAllocator) -> None:
    pipe = load(source, torch.float32)
    allocator.refuses = lambda use: use == Use("encode", 1)
    with allocator.on(pipe), pytest.raises(torch.OutOfMemoryError, match="injected"):
        pipe.encode_prompt("ring", "cpu", 1, False)
    assert not pipe.text_encoder._forward_pre_hooks
