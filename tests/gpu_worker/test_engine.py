"""The engine with a real pipeline on the CPU: what comes out."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from gpu_worker.engine import Engine
from gpu_worker.errors import (
    BadRequest,
)
from gpu_worker.request import Progress
from tests.gpu_worker.harness import WAIT, MakeRequest, failure, occupy, pixels


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
