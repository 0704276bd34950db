"""How requests end before they are finished: cancelled, too late, stopped."""

import threading
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from gpu_worker import engine as engine_module
from gpu_worker.config import EngineConfig
from gpu_worker.engine import Engine
from gpu_worker.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineStopped,
    ModelUnavailable,
)
from gpu_worker.request import GenerationResult, ModelSource, Progress
from tests.gpu_worker.harness import WAIT, Clock, MakeRequest, failure, occupy


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
