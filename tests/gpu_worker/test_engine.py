"""The engine with a real pipeline on the CPU."""

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gpu_worker import engine as engine_module
from gpu_worker.config import EngineConfig
from gpu_worker.engine import Engine
from gpu_worker.errors import (
    BadRequest,
    Cancelled,
    DeadlineExceeded,
    EngineError,
    EngineStopped,
    GenerationFailed,
    ModelUnavailable,
    OutOfMemory,
)
from gpu_worker.pipelines import load
from gpu_worker.request import GenerationRequest, GenerationResult, ModelSource, Progress

MakeRequest = Callable[..., GenerationRequest]
WAIT = 30.0


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gate:
    """A progress callback that holds the GPU thread at the first step until the test opens it."""

    def __init__(self) -> None:
        self.seen: list[Progress] = []
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, progress: Progress) -> None:
        self.seen.append(progress)
        self.reached.set()
        assert self.open.wait(WAIT)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(config: EngineConfig, clock: Clock) -> Iterator[Engine]:
    with Engine(config, clock=clock) as engine:
        yield engine


def pixels(future: Future[GenerationResult]) -> list[np.ndarray[Any, Any]]:
    return [
        np.asarray(Image.open(io.BytesIO(picture.png)), dtype=int) for picture in future.result(WAIT).pictures
    ]


def failure(future: Future[GenerationResult]) -> EngineError:
    error = future.exception(WAIT)
    assert isinstance(error, EngineError)
    return error


def occupy(engine: Engine, request: GenerationRequest) -> tuple[Gate, Future[GenerationResult]]:
    """A request that stands at its first step."""
    gate = Gate()
    future = engine.submit(request, gate)
    assert gate.reached.wait(WAIT)
    return gate, future


def test_same_request_same_pixels(engine: Engine, make_request: MakeRequest) -> None:
    first = pixels(engine.submit(make_request(id="1", scheduler="euler_a")))[0]
    pixels(engine.submit(make_request(id="2", scheduler="euler_a", seed=8)))
    again = pixels(engine.submit(make_request(id="3", scheduler="euler_a")))[0]
    assert np.array_equal(first, again)
    assert first.std() > 0


def test_a_picture_does_not_depend_on_how_many_are_asked_for(
    engine: Engine, make_request: MakeRequest
) -> None:
    together = pixels(engine.submit(make_request(id="3", scheduler="euler_a", num_images=3)))
    for i in range(3):
        alone = pixels(engine.submit(make_request(id="1", scheduler="euler_a", seed=7 + i)))[0]
        assert np.abs(alone - together[i]).max() <= 1  # a batch rounds differently
    assert np.abs(together[0] - together[1]).max() > 1


def test_result_tells_seeds_sizes_and_cost(engine: Engine, make_request: MakeRequest) -> None:
    result = engine.submit(make_request(num_images=2, width=64, height=32)).result(WAIT)
    assert [(p.seed, p.width, p.height) for p in result.pictures] == [(7, 64, 32), (8, 64, 32)]
    assert result.gpu_seconds > 0
    assert result.peak_memory_bytes is None


def test_progress_counts_every_step(engine: Engine, make_request: MakeRequest) -> None:
    seen: list[Progress] = []
    engine.submit(make_request(steps=4), seen.append).result(WAIT)
    assert seen == [Progress(i, 4) for i in (1, 2, 3, 4)]


def test_a_raising_callback_hurts_nobody(engine: Engine, make_request: MakeRequest) -> None:
    calls = []

    def bad(progress: Progress) -> None:
        calls.append(progress)
        raise RuntimeError("the caller's bug")

    engine.submit(make_request(id="1"), bad).result(WAIT)
    engine.submit(make_request(id="2")).result(WAIT)
    assert len(calls) == 1


def test_cancel_while_queued_ends_at_once(engine: Engine, make_request: MakeRequest) -> None:
    gate, running = occupy(engine, make_request(id="running"))
    queued = engine.submit(make_request(id="queued"))
    assert engine.stats().queued == 1
    assert engine.cancel("queued")
    assert isinstance(failure(queued), Cancelled)
    assert not running.done()
    gate.open.set()
    running.result(WAIT)
    assert not engine.cancel("queued")
    assert not engine.cancel("running")


def test_cancel_while_running_ends_at_the_next_step(engine: Engine, make_request: MakeRequest) -> None:
    gate, running = occupy(engine, make_request(steps=50))
    assert engine.cancel("r")
    gate.open.set()
    error = failure(running)
    assert isinstance(error, Cancelled)
    assert error.gpu_seconds > 0
    assert len(gate.seen) == 1


def test_a_future_cancelled_by_its_owner_is_skipped(engine: Engine, make_request: MakeRequest) -> None:
    gate, running = occupy(engine, make_request(id="running"))
    queued = engine.submit(make_request(id="queued"))
    assert queued.cancel()
    gate.open.set()
    running.result(WAIT)
    engine.submit(make_request(id="next")).result(WAIT)


def test_deadline_is_honoured_at_the_next_step(
    engine: Engine, clock: Clock, make_request: MakeRequest
) -> None:
    gate, running = occupy(engine, make_request(id="running", deadline=clock.now + 5))
    queued = engine.submit(make_request(id="queued", deadline=clock.now + 5))
    clock.now += 5
    gate.open.set()
    assert isinstance(failure(running), DeadlineExceeded)
    assert isinstance(failure(queued), DeadlineExceeded)
    assert len(gate.seen) == 1


def test_a_queued_deadline_ends_while_another_runs(
    engine: Engine, clock: Clock, make_request: MakeRequest
) -> None:
    queued: list[Future[GenerationResult]] = []
    ended: list[bool] = []

    def on_progress(progress: Progress) -> None:
        if progress.step == 1:
            queued.append(engine.submit(make_request(id="queued", deadline=clock.now + 5)))
            clock.now += 5
        ended.append(queued[0].done())

    engine.submit(make_request(id="running"), on_progress).result(WAIT)
    assert ended == [False, True, True]
    assert isinstance(failure(queued[0]), DeadlineExceeded)


def _note(order: list[str], name: str, progress: Progress) -> None:
    order.append(name)


def test_higher_tiers_first_then_first_come(engine: Engine, make_request: MakeRequest) -> None:
    gate, running = occupy(engine, make_request(id="running"))
    order: list[str] = []
    futures = []
    for name, rank in (("free1", 0), ("pro1", 2), ("free2", 0), ("pro2", 2), ("top", 4)):
        request = make_request(id=name, tier_rank=rank, steps=1)
        futures.append(engine.submit(request, partial(_note, order, name)))
    gate.open.set()
    for future in (running, *futures):
        future.result(WAIT)
    assert order == ["top", "pro1", "pro2", "free1", "free2"]


def test_an_id_in_flight_is_refused(engine: Engine, make_request: MakeRequest) -> None:
    gate, running = occupy(engine, make_request())
    with pytest.raises(ValueError, match="already in flight"):
        engine.submit(make_request())
    gate.open.set()
    running.result(WAIT)


def _stop_while_running(
    engine: Engine, make_request: MakeRequest, grace: float
) -> tuple[Future[GenerationResult], threading.Thread]:
    gate, running = occupy(engine, make_request(id="running", num_images=2))
    queued = engine.submit(make_request(id="queued"))
    stopper = threading.Thread(target=engine.stop, args=(grace,))
    stopper.start()
    assert isinstance(failure(queued), EngineStopped)  # so the engine knows that it stops
    assert not running.done()
    gate.open.set()
    return running, stopper


def test_stop_ends_the_running_request_at_its_next_step(engine: Engine, make_request: MakeRequest) -> None:
    running, stopper = _stop_while_running(engine, make_request, grace=0.0)
    assert isinstance(failure(running), EngineStopped)
    stopper.join(WAIT)
    assert not any(thread.name == "gpu" for thread in threading.enumerate())
    assert isinstance(failure(engine.submit(make_request())), EngineStopped)


def test_stop_with_grace_delivers_the_running_request(engine: Engine, make_request: MakeRequest) -> None:
    running, stopper = _stop_while_running(engine, make_request, grace=60.0)
    assert len(running.result(WAIT).pictures) == 2
    stopper.join(WAIT)
    assert not any(thread.name == "gpu" for thread in threading.enumerate())


def test_a_grace_that_runs_out(engine: Engine, clock: Clock, make_request: MakeRequest) -> None:
    gate, running = occupy(engine, make_request(id="running"))
    queued = engine.submit(make_request(id="queued"))
    stopper = threading.Thread(target=engine.stop, args=(60.0,))
    stopper.start()
    assert isinstance(failure(queued), EngineStopped)
    clock.now += 60.0
    gate.open.set()
    assert isinstance(failure(running), EngineStopped)
    stopper.join(WAIT)


def test_stop_gives_back_a_request_that_never_reaches_a_step(
    config: EngineConfig, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LAST_STEP_SECONDS", 0.0)
    loading, proceed = threading.Event(), threading.Event()

    def slow(source: ModelSource, dtype: torch.dtype) -> Any:
        loading.set()
        proceed.wait(WAIT)
        raise ModelUnavailable("too late")

    engine = Engine(config, loader=slow)
    future = engine.submit(make_request())
    assert loading.wait(WAIT)
    engine.stop()
    assert isinstance(failure(future), EngineStopped)
    proceed.set()


def test_stop_from_a_progress_callback(engine: Engine, make_request: MakeRequest) -> None:
    future = engine.submit(make_request(), lambda _: engine.stop())
    assert isinstance(failure(future), EngineStopped)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": "flow_euler"}, "ddim, euler, euler_a"),
        ({"scheduler": "magic"}, "accepts ddim"),
        ({"width": 60}, "multiples of 8"),
        ({"steps": 0}, "steps"),
        ({"seed": -1}, "seed"),
        ({"guidance": float("nan")}, "guidance"),
        ({"scheduler": "lcm", "steps": 51}, "num_inference_steps"),
    ],
)
def test_what_the_model_cannot_do_is_a_bad_request(
    engine: Engine, make_request: MakeRequest, changes: dict[str, Any], message: str
) -> None:
    error = failure(engine.submit(make_request(**changes)))
    assert isinstance(error, BadRequest)
    assert message in str(error)


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


class Faults:
    """A loader whose pipelines fail in the UNet as often as told, keeping big tensors in their frames."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.times = times
        self.loads = 0

    def __call__(self, source: ModelSource, dtype: torch.dtype) -> Any:
        self.loads += 1
        pipe = load(source, dtype)
        pipe.unet.register_forward_pre_hook(self._fail)
        return pipe

    def _fail(self, module: Any, inputs: Any) -> None:
        if self.times:
            self.times -= 1
            raise self.error


def test_out_of_memory_is_retried_once_with_other_models_unloaded(
    config: EngineConfig, source: ModelSource, make_request: MakeRequest
) -> None:
    faults = Faults(torch.OutOfMemoryError("injected"), times=0)
    with Engine(config, loader=faults) as engine:
        other = replace(source, slug="other", digest="1")
        engine.submit(make_request(id="1", model=other)).result(WAIT)
        faults.times = 1
        engine.submit(make_request(id="2")).result(WAIT)
        assert engine.stats().loaded_models == ("random-sd",)


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
    monkeypatch.setattr("gpu_worker.stock.time.perf_counter", lambda: seconds[0])

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
    a, b, c = (replace(source, slug=slug, digest=slug) for slug in "abc")
    with Engine(replace(config, max_loaded_models=2)) as engine:
        for number, model in enumerate((a, b, a, c)):
            engine.submit(make_request(id=str(number), model=model, steps=1)).result(WAIT)
        assert engine.stats().loaded_models == ("a", "c")
        assert engine.stats().device == "cpu"
