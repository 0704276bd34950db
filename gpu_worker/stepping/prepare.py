"""From a request to its trajectory: prompt, timesteps, noise, and the image it starts from."""

import io
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from gpu_worker import samplers
from gpu_worker.errors import BadRequest
from gpu_worker.families.base import Family
from gpu_worker.pipelines import LoadedModel
from gpu_worker.request import GenerationRequest, LoraSource
from gpu_worker.stepping.adapters import Adapters
from gpu_worker.stepping.plans import plan
from gpu_worker.stepping.trajectory import AdapterUse, Kept, Trajectory, draw


@torch.no_grad()
def prepare(
    family: Family,
    model: LoadedModel,
    request: GenerationRequest,
    adapters: Adapters,
    device: torch.device,
) -> Trajectory:
    """Everything before the first step, as the family's stock pipelines do it for each picture alone.

    Raises `BadRequest` when the model cannot do what was asked.
    """
    pipe = model.pipe
    check_size(model, request)
    scheduler = samplers.build(request.scheduler, model.own_scheduler)
    begin = _lay_out(family, pipe, scheduler, request)
    uses = uses_of(request)
    with adapters.applied([uses]):
        prompt = family.encode_prompt(pipe, request, device)
    generators = generators_of(request)
    latents, kept = _start(family, pipe, request, scheduler, begin, generators, device)
    return Trajectory(
        family=family,
        latents=latents,
        prompt=prompt,
        guidance=request.guidance,
        scheduler=scheduler,
        timesteps=scheduler.timesteps[begin:],
        generators=generators,
        # Inpainting adds noise between steps by the scheduler's own count of them: let it do the counting.
        plan=plan(scheduler, begin) if kept is None else None,
        kept=kept,
        adapters=uses,
    )


def check_size(model: LoadedModel, request: GenerationRequest) -> None:
    """Raises `BadRequest` for a width or height that the model would round down silently."""
    if request.width % model.size_multiple or request.height % model.size_multiple:
        raise BadRequest(f"width and height must be multiples of {model.size_multiple} for this model")


def uses_of(request: GenerationRequest) -> tuple[AdapterUse, ...]:
    """Its LoRAs with their weights; one named twice has the sum."""
    weights: dict[LoraSource, float] = {}
    for lora in request.loras:
        weights[lora.plain] = weights.get(lora.plain, 0.0) + lora.weight
    return tuple(weights.items())


def generators_of(request: GenerationRequest) -> list[torch.Generator]:
    """One CPU generator per picture, so that its noise depends neither on the device nor on their number."""
    return [torch.Generator("cpu").manual_seed(request.seed_of(i)) for i in range(request.num_images)]


def image_of(data: bytes, what: str) -> Image.Image:
    """Raises `BadRequest` when the bytes are no image, or one too large to be meant."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadRequest(f"{what} is not an image that can be read") from error


def _lay_out(family: Family, pipe: Any, scheduler: Any, request: GenerationRequest) -> int:
    """Set the timesteps; the index of the first to be made."""
    try:
        family.set_timesteps(pipe, scheduler, request)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    skipped = 0
    if request.init_image is not None:
        skipped = family.first_step(request.steps, request.strength)
        if skipped >= request.steps:
            raise BadRequest("strength times steps must be at least 1: nothing would be changed")
    begin = skipped * int(getattr(scheduler, "order", 1))
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)  # or the first step asks the device where it stands
    return begin


def _start(
    family: Family,
    pipe: Any,
    request: GenerationRequest,
    scheduler: Any,
    begin: int,
    generators: list[torch.Generator],
    device: torch.device,
) -> tuple[torch.Tensor, Kept | None]:
    """First latents. Each generator's numbers are drawn in the order of the stock pipelines."""
    factor = pipe.vae_scale_factor
    shape = (family.latent_channels(pipe), request.height // factor, request.width // factor)
    most_noise = float(getattr(scheduler, "init_noise_sigma", 1.0))  # flow matching has none: it is 1
    if request.init_image is None:
        return draw(generators, shape, device) * most_noise, None
    image = image_of(request.init_image, "init_image")
    pixels = pipe.image_processor.preprocess(image, height=request.height, width=request.width)
    clean = family.encode_image(pipe, pixels, generators).to(device)
    noise = draw(generators, shape, device)
    noisy = family.add_noise(scheduler, clean, noise, scheduler.timesteps[begin : begin + 1])
    if request.mask is None:
        return noisy, None
    if request.strength == 1:
        noisy = noise * most_noise
    # The stock pipelines encode the masked image too, for UNets that take it; only its draw matters here.
    draw(generators, shape, device)
    return noisy, Kept(clean, noise, _mask_of(request, shape, factor).to(device))


def _mask_of(request: GenerationRequest, shape: tuple[int, int, int], factor: int) -> torch.Tensor:
    """1 where the mask is bright, at the resolution of latents, (1, 1, h, w)."""
    processor = VaeImageProcessor(
        vae_scale_factor=factor, do_normalize=False, do_binarize=True, do_convert_grayscale=True
    )
    assert request.mask is not None
    image = image_of(request.mask, "mask")
    pixels = processor.preprocess(image, height=request.height, width=request.width)
    mask: torch.Tensor = torch.nn.functional.interpolate(pixels, size=shape[1:])
    return mask
