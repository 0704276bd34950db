"""A request by the stock pipeline call, for pipelines that no family drives. It stops after every step."""

import copy
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import torch
from PIL import Image

from gpu_worker import samplers
from gpu_worker.errors import BadRequest
from gpu_worker.outcomes import caught
from gpu_worker.pipelines import LoadedModel
from gpu_worker.request import GenerationRequest, Progress
from gpu_worker.stepping.prepare import check_size, generators_of, image_of

CLOSE_SECONDS = 60.0


class _Abandoned(Exception):
    """Unwinds the pipeline call of a request that ends early."""


class StockRun:
    """A pipeline's calls, one per picture, on a thread of its own, which runs only inside `advance`.

    So the device is used by one thread at a time, and a call that cannot share its steps takes turns with
    others between them. A picture is decoded in the turn after its last step. One call for all of them would
    make others: some pipelines encode an image once, with the first picture's noise.
    """

    def __init__(self, model: LoadedModel, request: GenerationRequest, threads: int | None = None) -> None:
        """Raises `BadRequest` when the model cannot do what was asked."""
        self._model = model
        self._request = request
        self._threads = threads
        # A pipeline keeps scheduler and guidance on itself: each run has its own, the weights are shared.
        self._pipe = copy.copy(_pipe_for(model, request))
        call_arguments(model, self._pipe, request, None)  # says at once what the model cannot do
        self._pictures: list[Image.Image] = []
        self._turn = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._abandoned = False
        self._outcome: Exception | bool = False  # whether all calls are over, or what ended them
        self._thread: threading.Thread | None = None
        self.progress = Progress(0, request.steps * request.num_images)

    @property
    def turns_left(self) -> int:
        """As far as is known before the end: the steps, and the last picture's decoding."""
        return max(self.progress.total_steps - self.progress.step, 0) + 1

    def advance(self) -> tuple[Image.Image, ...] | None:
        """Run to the end of the next step. The pictures once all are there, None before.

        Raises `BadRequest` when the pipeline refuses its arguments, else whatever it raises. Called again
        after that, it begins anew with the picture that failed.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stock pipeline", daemon=True)
            self._thread.start()
        self._turn.release()
        self._back.acquire()
        outcome = self._outcome
        if not isinstance(outcome, Exception):
            return tuple(self._pictures) if outcome else None
        self._thread, self._outcome = None, False
        if isinstance(outcome, ValueError) and not self.progress.step:
            # Before the first step only checks of the arguments raise this: the pipeline's, the scheduler's.
            raise BadRequest(str(outcome)) from outcome
        raise outcome

    def close(self) -> None:
        """End the call wherever it stands. May be called again."""
        if self._thread is not None and self._thread.is_alive():
            self._abandoned = True
            self._turn.release()
            self._thread.join(CLOSE_SECONDS)
        self._outcome = False
        self._pictures.clear()

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)  # holds for the calling thread
        self._turn.acquire()
        error = None if self._abandoned else caught(self._make_pictures)
        self._outcome = error or True
        self._back.release()

    def _make_pictures(self) -> None:
        for index in range(len(self._pictures), self._request.num_images):
            one = replace(self._request, num_images=1, seed=self._request.seed_of(index))
            self._pipe.scheduler = samplers.build(one.scheduler, self._model.own_scheduler)
            arguments = call_arguments(self._model, self._pipe, one, self._step_end)
            self._pictures += self._pipe(**arguments).images

    def _step_end(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        # Some schedulers take more evaluations than the steps asked for (PNDM one, Heun twice as many).
        total = getattr(pipe, "num_timesteps", None) or self._request.steps
        self.progress = Progress(len(self._pictures) * total + step + 1, self._request.num_images * total)
        self._back.release()
        self._turn.acquire()
        if self._abandoned:
            raise _Abandoned
        return {}


def call_arguments(
    model: LoadedModel, pipe: Any, request: GenerationRequest, on_step_end: Callable[..., Any] | None
) -> dict[str, Any]:
    """The request as arguments of this pipeline's `__call__`, without those that it does not have.

    Raises `BadRequest` where an argument that is missing would change what the pictures show.
    """
    check_size(model, request)
    accepts = model.accepts if pipe is model.pipe else LoadedModel.of(model.source, pipe).accepts
    if _fills_masks(pipe) and (request.init_image is None or request.mask is None):
        raise BadRequest("this model fills masks: it needs an init_image and a mask")
    if request.loras:
        raise BadRequest("this model takes no LoRAs")
    arguments: dict[str, Any] = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or None,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance,
        "num_images_per_prompt": request.num_images,
        "generator": generators_of(request),
        "output_type": "pil",
        "callback_on_step_end": on_step_end,
    }
    size = (request.width, request.height)
    if request.init_image is not None:
        arguments["image"] = image_of(request.init_image, "init_image").resize(size)
        arguments["strength"] = request.strength
    if request.mask is not None:
        arguments["mask_image"] = image_of(request.mask, "mask").resize(size)
    return {name: value for name, value in arguments.items() if name in accepts}


def _fills_masks(pipe: Any) -> bool:
    """Whether its UNet takes latents, a mask and the masked image's latents."""
    unet, vae = getattr(pipe, "unet", None), getattr(pipe, "vae", None)
    if unet is None or vae is None:
        return False
    latent = vae.config.get("latent_channels")
    return latent is not None and bool(unet.config.get("in_channels") == 2 * latent + 1)


def _pipe_for(model: LoadedModel, request: GenerationRequest) -> Any:
    """The pipeline, or its sibling over the same weights that starts from an image or fills a mask."""
    if request.init_image is None or "image" in model.accepts:
        return model.pipe
    hub: Any = diffusers
    kind = hub.AutoPipelineForInpainting if request.mask is not None else hub.AutoPipelineForImage2Image
    try:
        pipe = kind.from_pipe(model.pipe)
    except ValueError as error:
        raise BadRequest("this model cannot start from an image") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe
