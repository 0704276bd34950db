"""One request by the stock pipeline call: arguments in, PIL pictures out."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from gpu_worker import samplers
from gpu_worker.devices import Placement
from gpu_worker.errors import BadRequest, EngineError
from gpu_worker.pipelines import LoadedModel
from gpu_worker.request import GenerationRequest, Progress

# Called after every step; ends the run by raising an `EngineError`.
StepHook = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Run:
    """What one call produced: pictures in order, seconds of the GPU thread, bytes at the peak."""

    images: tuple[Image.Image, ...]
    gpu_seconds: float
    peak_memory_bytes: int | None


def generate(model: LoadedModel, request: GenerationRequest, placement: Placement, on_step: StepHook) -> Run:
    """Make the request's pictures in one pipeline call.

    Raises `BadRequest` when the model cannot do what was asked, whatever `EngineError` the hook raises (with
    `gpu_seconds` set), and whatever else the pipeline raises.
    """
    model.pipe.scheduler = samplers.build(request.scheduler, model.own_scheduler)
    steps = _StepCounter(request.steps, on_step)
    arguments = call_arguments(model, request, steps)
    placement.reset_peak_memory()
    started = time.perf_counter()
    try:
        output = model.pipe(**arguments)
        placement.synchronize()  # the last kernels may still be running
    except ValueError as error:
        if steps.done:
            raise
        # Before the first step only checks of the arguments raise this: the pipeline's, then the scheduler's.
        raise BadRequest(str(error)) from error
    except EngineError as error:
        placement.synchronize()
        error.gpu_seconds = time.perf_counter() - started
        raise
    return Run(tuple(output.images), time.perf_counter() - started, placement.peak_memory())


def call_arguments(model: LoadedModel, request: GenerationRequest, on_step_end: Any) -> dict[str, Any]:
    """The request as arguments of this pipeline's `__call__`, without those that it does not have.

    Noise comes from one CPU generator per picture, so that it depends neither on the device nor on how many
    pictures are asked for (a batch still rounds differently from one picture, by about one level of 255).
    """
    if request.width % model.size_multiple or request.height % model.size_multiple:
        raise BadRequest(f"width and height must be multiples of {model.size_multiple} for this model")
    if request.num_images > 1 and "num_images_per_prompt" not in model.accepts:
        raise BadRequest("this model makes one picture per request")
    arguments = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or None,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance,
        "num_images_per_prompt": request.num_images,
        "generator": [
            torch.Generator("cpu").manual_seed(request.seed_of(i)) for i in range(request.num_images)
        ],
        "output_type": "pil",
        "callback_on_step_end": on_step_end,
    }
    return {name: value for name, value in arguments.items() if name in model.accepts}


class _StepCounter:
    """A `callback_on_step_end` that turns the pipeline's steps into `Progress`."""

    def __init__(self, steps: int, hook: StepHook) -> None:
        self._steps = steps
        self._hook = hook
        self.done = 0

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.done = step + 1
        # Some schedulers take more evaluations than the steps asked for (PNDM one, Heun twice as many).
        total = getattr(pipe, "num_timesteps", None) or self._steps
        self._hook(Progress(self.done, total))
        return {}
