"""Requests that share denoising steps in the engine."""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from gpu_worker import samplers
from gpu_worker.config import EngineConfig
from gpu_worker.engine import Engine
from gpu_worker.errors import BadRequest, Cancelled
from gpu_worker.pipelines import load
from gpu_worker.request import ModelSource, Progress
from gpu_worker.scheduling import SchedulingConfig
from gpu_worker.stepping.twins import Twins
from tests.gpu_worker.harness import WAIT, Faults, Gate, MakeRequest, failure, occupy, pixels

hub: Any = diffusers  # whose calls are not typed


def picture_of(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_requests_share_steps(engine: Engine, make_request: MakeRequest) -> None:
    gate, running = occupy(engine, make_request(id="running", steps=8))
    futures = [
        engine.submit(make_request(id=str(n), steps=4 + n, seed=n, guidance=1.0 + n)) for n in range(3)
    ]
    gate.open.set()
    for future in (running, *futures):
        assert future.result(WAIT).gpu_seconds > 0
    stats = engine.stats()
    assert stats.steps < 8 + 4 + 5 + 6
    assert stats.served == 8 + 4 + 5 + 6
    assert stats.rows == 2 * 8 + 4 + 2 * 5 + 2 * 6
    assert stats.requests_per_step > 1
    assert stats.queued == stats.running == 0


def test_a_shared_picture_is_the_one_made_alone(config: EngineConfig, make_request: MakeRequest) -> None:
    """Bit for bit with one bucket; by at most one level of 255 with several."""
    request = make_request(id="one", steps=5, scheduler="dpmpp_2m", seed=3)
    for buckets, levels in (((8,), 0), ((1, 2, 4, 8), 1)):
        with Engine(replace(config, scheduling=SchedulingConfig(max_rows=8, buckets=buckets))) as engine:
            alone = pixels(engine.submit(request))[0]
            gate, running = occupy(engine, make_request(id="running", steps=9, scheduler="euler_a"))
            shared = engine.submit(request)
            late = engine.submit(make_request(id="late", guidance=1.0, steps=3))
            gate.open.set()
            assert np.abs(pixels(shared)[0] - alone).max() <= levels
            for future in (running, late):
                future.result(WAIT)
            assert engine.stats().requests_per_step > 1


@pytest.mark.parametrize("num_images", [1, 2])
def test_the_png_is_that_of_the_stock_pipeline(
    engine: Engine, source: ModelSource, make_request: MakeRequest, num_images: int
) -> None:
    request = make_request(scheduler="dpmpp_2m", steps=5, num_images=num_images)
    pipe = load(source, torch.float32)
    pipe.scheduler = samplers.build("dpmpp_2m", pipe.scheduler)
    for index, ours in enumerate(pixels(engine.submit(request))):
        image = pipe(
            request.prompt,
            width=64,
            height=64,
            num_inference_steps=5,
            guidance_scale=request.guidance,
            generator=torch.Generator().manual_seed(request.seed_of(index)),
        ).images[0]
        assert np.abs(np.asarray(image, dtype=int) - ours).max() <= 1


def test_a_cancelled_request_leaves_the_others_alone(engine: Engine, make_request: MakeRequest) -> None:
    gate = Gate()
    doomed = engine.submit(make_request(id="doomed", steps=20), gate)
    other = engine.submit(make_request(id="other", steps=6))
    assert gate.reached.wait(WAIT)
    assert engine.cancel("doomed")
    gate.open.set()
    assert isinstance(failure(doomed), Cancelled)
    assert other.result(WAIT).pictures


def test_gpu_time_is_shared_by_rows(
    config: EngineConfig, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    monkeypatch.setattr("gpu_worker.devices.time.perf_counter", lambda: seconds[0])

    def spend(module: Any, inputs: Any) -> None:
        seconds[0] += 3.0

    def loader(source: ModelSource, dtype: torch.dtype) -> Any:
        pipe = load(source, dtype)
        pipe.unet.register_forward_pre_hook(spend)
        return pipe

    with Engine(config, loader=loader) as engine:
        gate, first = occupy(engine, make_request(id="guided", steps=3))
        second = engine.submit(make_request(id="plain", steps=2, guidance=1.0))
        gate.open.set()
        assert first.result(WAIT).gpu_seconds == pytest.approx(3 + 2 + 2)
        assert second.result(WAIT).gpu_seconds == pytest.approx(1 + 1)


def test_from_an_image_and_through_a_mask(engine: Engine, make_request: MakeRequest) -> None:
    image, mask = picture_of((200, 30, 30)), picture_of((0, 0, 0))
    changed = engine.submit(make_request(id="i", init_image=image, strength=0.5, steps=6))
    seen: list[Progress] = []
    kept = engine.submit(make_request(id="m", init_image=image, mask=mask, steps=5), seen.append)
    assert changed.result(WAIT).pictures
    assert kept.result(WAIT).pictures
    assert seen[-1] == Progress(4, 4)  # strength 0.8 leaves out one of five


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_image": b"no image"}, "init_image is not an image"),
        ({"init_image": picture_of((1, 2, 3)), "mask": b"no image"}, "mask is not an image"),
        ({"mask": picture_of((1, 2, 3))}, "needs an init_image"),
        ({"init_image": picture_of((1, 2, 3)), "strength": 0.1}, "strength times steps"),
        ({"strength": 0.0}, "strength"),
    ],
)
def test_images_that_cannot_be_used(
    engine: Engine, make_request: MakeRequest, changes: dict[str, Any], message: str
) -> None:
    error = failure(engine.submit(make_request(**changes)))
    assert isinstance(error, BadRequest)
    assert message in str(error)


class Unknown(hub.StableDiffusionPipeline):  # type: ignore[misc]
    """A pipeline of a class that no family names."""


def unknown(source: ModelSource, dtype: torch.dtype) -> Any:
    pipe = Unknown(**load(source, dtype).components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def strangers(config: EngineConfig, source: ModelSource) -> Callable[[ModelSource, torch.dtype], Any]:
    return lambda wanted, dtype: (unknown if wanted.slug == "unknown" else load)(source, dtype)


def test_a_pipeline_without_family_takes_turns(
    config: EngineConfig, source: ModelSource, make_request: MakeRequest, strangers: Any
) -> None:
    """Two of them and a request of a known family, step by step, each the picture it would be alone."""
    stranger = replace(source, slug="unknown", family="other")
    order: list[str] = []
    with Engine(config, loader=strangers) as engine:
        known = pixels(engine.submit(make_request(id="known", steps=4)))[0]
        futures = [
            engine.submit(make_request(id=name, model=stranger, steps=4, num_images=2), noting(order, name))
            for name in ("a", "b")
        ]
        friend = engine.submit(make_request(id="c", steps=4), noting(order, "c"))
        results = [pixels(future)[0] for future in (*futures, friend)]
    assert sorted(order) == ["a"] * 8 + ["b"] * 8 + ["c"] * 4
    for result in results:
        assert np.abs(result - known).max() <= 1


def noting(order: list[str], name: str) -> Callable[[Progress], None]:
    return lambda progress: order.append(name)


def test_a_pipeline_without_family_ends_early(
    config: EngineConfig, source: ModelSource, make_request: MakeRequest, strangers: Any
) -> None:
    stranger = replace(source, slug="unknown", family="other")
    with Engine(config, loader=strangers) as engine:
        gate, running = occupy(engine, make_request(model=stranger, steps=50))
        assert engine.cancel("r")
        gate.open.set()
        assert isinstance(failure(running), Cancelled)
        bad = failure(engine.submit(make_request(id="bad", model=stranger, scheduler="lcm", steps=51)))
        assert isinstance(bad, BadRequest)
        assert "num_inference_steps" in str(bad)


def test_a_pipeline_without_family_begins_a_picture_anew_after_running_out_of_memory(
    config: EngineConfig, source: ModelSource, make_request: MakeRequest, strangers: Any
) -> None:
    stranger = replace(source, slug="unknown", family="other")
    faults = Faults(torch.OutOfMemoryError("injected"), times=0, loader=strangers)

    seen: list[int] = []

    def refuse(progress: Progress) -> None:
        seen.append(progress.step)
        faults.times = int(seen == [1, 2, 3, 4])

    request = make_request(model=stranger, steps=3, num_images=2)
    with Engine(config, loader=faults) as engine:
        expected = pixels(engine.submit(replace(request, id="expected")))
        again = pixels(engine.submit(replace(request, id="again"), refuse))
    assert seen == [1, 2, 3, 4, 4, 5, 6]
    assert np.array_equal(expected, again)


def test_compiling_changes_no_picture(
    config: EngineConfig, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_worker.loop.Twins", partial(Twins, backend="eager"))
    request = make_request(steps=4, scheduler="ddim")
    with Engine(config) as engine:
        expected = pixels(engine.submit(request))[0]
    with Engine(replace(config, compile=True)) as engine:
        for number in range(3):
            picture = pixels(engine.submit(replace(request, id=str(number))))[0]
            assert np.abs(picture - expected).max() <= 1
