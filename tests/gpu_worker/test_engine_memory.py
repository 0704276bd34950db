"""Models, memory and failures in the engine."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from gpu_worker.config import EngineConfig
from gpu_worker.engine import Engine
from gpu_worker.errors import (
    GenerationFailed,
    ModelUnavailable,
    OutOfMemory,
)
from gpu_worker.memory.transfers import PlainTransfer
from gpu_worker.pipelines import load
from gpu_worker.request import ModelSource
from gpu_worker.stepping import plans
from tests.gpu_worker.harness import WAIT, Faults, MakeRequest, failure, occupy, pixels

hub: Any = diffusers  # whose calls are not typed


def test_a_missing_model_is_unavailable_and_drives_no_other_out(
    engine: Engine, make_request: MakeRequest, tmp_path: Path
) -> None:
    engine.submit(make_request()).result(WAIT)
    missing = ModelSource("gone", str(tmp_path / "gone"), "sd15")
    error = failure(engine.submit(make_request(model=missing)))
    assert isinstance(error, ModelUnavailable)
    assert "'gone' cannot be loaded: its folder is missing" in str(error)
    assert engine.stats().loaded_models == ("random-sd",)


def test_prefetch_loads_when_idle(
    config: EngineConfig, source: ModelSource, make_request: MakeRequest
) -> None:
    loads: list[str] = []
    loaded = threading.Event()

    def loader(source: ModelSource, dtype: torch.dtype) -> Any:
        loads.append(source.slug)
        if source.slug == "random-sd":
            loaded.set()
        return load(source, dtype)

    with Engine(config, loader=loader) as engine:
        engine.prefetch(replace(source, slug="broken", location="/nowhere"))
        engine.prefetch(source)
        assert loaded.wait(WAIT)
        engine.submit(make_request()).result(WAIT)
    assert loads == ["broken", "random-sd"]


def test_out_of_memory_is_retried_once_with_other_models_unloaded(
    config: EngineConfig, source: ModelSource, make_request: MakeRequest
) -> None:
    faults = Faults(torch.OutOfMemoryError("injected"), times=0)
    with Engine(config, loader=faults) as engine:
        other = replace(source, slug="other", family="sd2")
        engine.submit(make_request(id="1", model=other)).result(WAIT)
        faults.times = 1
        engine.submit(make_request(id="2")).result(WAIT)
        assert engine.stats().loaded_models == ("random-sd",)


def test_a_pinned_model_stays_where_others_are_unloaded(
    config: EngineConfig, source: ModelSource, make_request: MakeRequest
) -> None:
    faults = Faults(torch.OutOfMemoryError("injected"), times=0)
    with Engine(config, loader=faults) as engine:
        other = replace(source, slug="other", family="sd2")
        engine.pin(other)
        engine.submit(make_request(id="1", model=other)).result(WAIT)
        faults.times = 1
        engine.submit(make_request(id="2")).result(WAIT)
        assert set(engine.stats().loaded_models) == {"other", "random-sd"}


def test_out_of_memory_twice_fails_that_request_only(config: EngineConfig, make_request: MakeRequest) -> None:
    faults = Faults(RuntimeError("DefaultCPUAllocator: can't allocate memory"), times=2)
    with Engine(config, loader=faults) as engine:
        error = failure(engine.submit(make_request(id="1")))
        assert isinstance(error, OutOfMemory)
        assert error.retryable
        engine.submit(make_request(id="2")).result(WAIT)
    assert faults.loads == 1


def test_the_unexpected_is_reported_with_its_cause_and_without_tensors(
    config: EngineConfig, make_request: MakeRequest
) -> None:
    with Engine(config, loader=Faults(LookupError("a bug"), times=1)) as engine:
        error = failure(engine.submit(make_request(id="1")))
        engine.submit(make_request(id="2")).result(WAIT)
    assert isinstance(error, GenerationFailed)
    assert isinstance(error.__cause__, LookupError)
    trace = error.__cause__.__traceback__
    assert trace is not None
    while trace is not None:
        assert not any(isinstance(value, torch.Tensor) for value in trace.tb_frame.f_locals.values())
        trace = trace.tb_next


def test_metering_excludes_loading(
    config: EngineConfig, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    monkeypatch.setattr("gpu_worker.devices.time.perf_counter", lambda: seconds[0])

    def loader(source: ModelSource, dtype: torch.dtype) -> Any:
        seconds[0] += 100.0
        pipe = load(source, dtype)
        pipe.unet.register_forward_pre_hook(_spend(seconds, 2.0))
        return pipe

    with Engine(config, loader=loader) as engine:
        assert engine.submit(make_request(steps=3)).result(WAIT).gpu_seconds == 6.0


def _spend(seconds: list[float], amount: float) -> Callable[[Any, Any], None]:
    def hook(module: Any, inputs: Any) -> None:
        seconds[0] += amount

    return hook


def test_the_least_recently_used_model_goes(
    config: EngineConfig, source: ModelSource, make_request: MakeRequest
) -> None:
    a, b, c = (replace(source, slug=slug, family=slug) for slug in "abc")
    size = sum(path.stat().st_size for path in Path(source.location).rglob("*.safetensors"))
    with Engine(replace(config, model_memory_gib=2.5 * size / 2**30)) as engine:
        for number, model in enumerate((a, b, a, c)):
            engine.submit(make_request(id=str(number), model=model, steps=1)).result(WAIT)
        assert engine.stats().loaded_models == ("a", "c")
        assert engine.stats().device == "cpu"


def test_half_the_rows_when_all_do_not_fit(config: EngineConfig, make_request: MakeRequest) -> None:
    """Nobody fails for another's size: the batch is cut until it fits."""
    seen: list[int] = []

    def loader(source: ModelSource, dtype: torch.dtype) -> Any:
        pipe = load(source, dtype)
        pipe.unet.register_forward_pre_hook(at_most(4, seen), with_kwargs=True)
        return pipe

    with Engine(config, loader=loader) as engine:
        gate, running = occupy(engine, make_request(id="running", steps=6))
        others = [engine.submit(make_request(id=str(n), steps=4)) for n in range(4)]
        gate.open.set()
        for future in (running, *others):
            future.result(WAIT)
        whole = engine.submit(make_request(id="many", num_images=3)).result(WAIT)
    assert len(whole.pictures) == 3
    assert max(seen) > 4
    assert seen[-1] <= 4


def at_most(rows: int, seen: list[int]) -> Callable[..., None]:
    def hook(module: Any, inputs: Any, named: Any) -> None:
        seen.append(len(inputs[0]))
        if len(inputs[0]) > rows:
            raise torch.OutOfMemoryError("injected")

    return hook


def test_only_the_request_at_fault_fails(config: EngineConfig, make_request: MakeRequest) -> None:
    """What breaks a shared step is found by stepping each one alone."""
    poison = 3.25

    def loader(source: ModelSource, dtype: torch.dtype) -> Any:
        pipe = load(source, dtype)
        encode = pipe.encode_prompt

        def encode_prompt(texts: list[str], *rest: Any, **named: Any) -> Any:
            embedded, _ = encode(texts, *rest, **named)
            return (embedded * 0 + poison if "poison" in texts else embedded), None

        def check(module: Any, inputs: Any, named: Any) -> None:
            if (named["encoder_hidden_states"] == poison).all(dim=(1, 2)).any():
                raise RuntimeError("a bug that one prompt meets")

        pipe.encode_prompt = encode_prompt
        pipe.unet.register_forward_pre_hook(check, with_kwargs=True)
        return pipe

    with Engine(config, loader=loader) as engine:
        gate, running = occupy(engine, make_request(id="running"))
        bad = engine.submit(make_request(id="bad", prompt="poison"))
        good = engine.submit(make_request(id="good"))
        gate.open.set()
        assert isinstance(failure(bad), GenerationFailed)
        for future in (running, good):
            assert future.result(WAIT).pictures


def test_two_models_take_turns(config: EngineConfig, source: ModelSource, make_request: MakeRequest) -> None:
    other = replace(source, slug="other", family="sd2")
    with Engine(config) as engine:
        futures = [
            engine.submit(make_request(id=str(n), model=(source, other)[n % 2], steps=3)) for n in range(4)
        ]
        for future in futures:
            assert future.result(WAIT).pictures
        assert set(engine.stats().loaded_models) == {"random-sd", "other"}


def test_a_model_that_leaves_no_room_runs_from_host_memory(
    config: EngineConfig, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last rung, with two tiers on the CPU: the layers visit the device, the picture is the same."""
    monkeypatch.setattr("gpu_worker.memory.store.transfer_for", lambda p: PlainTransfer(p.device))
    offloaded: list[bool] = []

    def loader(source: ModelSource, dtype: torch.dtype) -> Any:
        pipe = load(source, dtype)
        pipe.unet.register_forward_pre_hook(refuse)
        return pipe

    def refuse(unet: Any, inputs: Any) -> None:
        offloaded.append(any(hasattr(module, "_diffusers_hook") for module in unet.modules()))
        if is_full and not offloaded[-1]:
            raise torch.OutOfMemoryError("injected")

    is_full = False
    with Engine(config, loader=loader) as engine:
        expected = pixels(engine.submit(make_request(id="expected")))
        is_full = True
        found = pixels(engine.submit(make_request(id="found", num_images=2)))
        again = pixels(engine.submit(make_request(id="again")))
    assert offloaded[:3] == [False] * 3
    assert offloaded[-6:] == [True] * 6
    for picture in (found[0], again[0]):
        assert np.abs(picture - expected[0]).max() <= 1


def test_a_scheduler_that_raises_stops_its_own_request_only(
    engine: Engine, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*arguments: Any, **named: Any) -> None:
        raise ArithmeticError("no further")

    monkeypatch.delitem(plans._ROWS, "UniPCMultistepScheduler")  # as any sampler that no table describes
    monkeypatch.setattr(hub.UniPCMultistepScheduler, "step", step)
    gate, running = occupy(engine, make_request(id="running", scheduler="ddim", steps=5))
    bad = engine.submit(make_request(id="bad", scheduler="unipc"))
    other = engine.submit(make_request(id="other", scheduler="euler"))
    gate.open.set()
    assert isinstance(failure(bad).__cause__, ArithmeticError)
    for future in (running, other):
        assert future.result(WAIT).pictures


def test_two_names_of_one_model_share_it(
    engine: Engine, source: ModelSource, make_request: MakeRequest
) -> None:
    gate, running = occupy(engine, make_request(id="running", steps=6))
    alias = replace(source, slug="alias")
    other = engine.submit(make_request(id="other", model=alias, steps=3))
    gate.open.set()
    for future in (running, other):
        assert future.result(WAIT).pictures
    assert engine.submit(make_request(id="again", model=alias)).result(WAIT).pictures
    stats = engine.stats()
    assert len(stats.loaded_models) == 1
    assert stats.steps == 6 + 3
    assert stats.served == 6 + 3 + 3
