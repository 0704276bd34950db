"""Models made for inpainting, whose UNet takes mask and masked image in five channels more.

No family drives those: they run by their stock call, a step per turn beside other requests.
"""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from gpu_worker import samplers
from gpu_worker.config import EngineConfig
from gpu_worker.engine import Engine
from gpu_worker.errors import BadRequest
from gpu_worker.families import family_of
from gpu_worker.pipelines import load
from gpu_worker.request import GenerationRequest, ModelSource
from tests.gpu_worker.harness import WAIT, MakeRequest, failure, pixels

hub: Any = diffusers  # whose calls are not typed


def picture_of(seed: int, mode: str = "RGB") -> bytes:
    numbers = torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(seed)) * 255
    buffer = io.BytesIO()
    Image.fromarray(numbers.byte().numpy()).resize((64, 64)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def nine_channels(source: ModelSource) -> Any:
    """The random model's parts around a UNet of nine channels."""
    parts = hub.StableDiffusionPipeline.from_pretrained(source.location).components
    torch.manual_seed(0)
    parts["unet"] = hub.UNet2DConditionModel.from_config(parts["unet"].config, in_channels=9)
    return parts


@pytest.fixture(scope="module", params=["StableDiffusionInpaintPipeline", "StableDiffusionPipeline"])
def inpainter(
    request: pytest.FixtureRequest, source: ModelSource, tmp_path_factory: pytest.TempPathFactory
) -> ModelSource:
    """A folder that names the inpainting pipeline, and one that names the one from text."""
    folder: Path = tmp_path_factory.mktemp("inpainter")
    kind = getattr(hub, request.param)
    kind(**nine_channels(source), requires_safety_checker=False).save_pretrained(folder)
    return ModelSource("inpainter", str(folder), "sd15")


def alone(request: GenerationRequest) -> list[np.ndarray[Any, Any]]:
    """Each picture by the stock inpainting pipeline."""
    assert request.init_image is not None
    assert request.mask is not None
    pipe = hub.StableDiffusionInpaintPipeline.from_pretrained(request.model.location, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    own = pipe.scheduler
    pictures = []
    for index in range(request.num_images):
        pipe.scheduler = samplers.build(request.scheduler, own)
        image = pipe(
            request.prompt,
            image=Image.open(io.BytesIO(request.init_image)),
            mask_image=Image.open(io.BytesIO(request.mask)),
            strength=request.strength,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            generator=torch.Generator().manual_seed(request.seed_of(index)),
            width=request.width,
            height=request.height,
        ).images[0]
        pictures.append(np.asarray(image, dtype=int))
    return pictures


def test_pictures_are_those_of_the_stock_pipeline_whatever_runs_beside(
    config: EngineConfig, inpainter: ModelSource, make_request: Callable[..., GenerationRequest]
) -> None:
    assert family_of(load(inpainter, torch.float32)) is None
    images = {"init_image": picture_of(1), "mask": picture_of(2, "L"), "model": inpainter}
    one = make_request(id="one", steps=6, strength=0.6, scheduler="dpmpp_2m", **images)
    two = make_request(id="two", steps=4, strength=1.0, scheduler="euler", num_images=2, seed=9, **images)
    with Engine(config) as engine:
        friend = engine.submit(make_request(id="friend", steps=8))
        futures = {request.id: engine.submit(request) for request in (one, two)}
        assert friend.result(WAIT).pictures
        found = {name: pixels(future) for name, future in futures.items()}
    for request in (one, two):
        for ours, theirs in zip(found[request.id], alone(request), strict=True):
            assert np.abs(ours - theirs).max() <= 1


def test_without_an_image_there_is_nothing_to_paint(
    config: EngineConfig, inpainter: ModelSource, make_request: MakeRequest
) -> None:
    with Engine(config) as engine:
        error = failure(engine.submit(replace(make_request(), model=inpainter)))
    assert isinstance(error, BadRequest)
    assert "fills masks" in str(error)
