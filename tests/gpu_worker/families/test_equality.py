"""Requests that join and leave a shared batch at any step end as the stock pipeline alone would end them."""

import copy
import inspect
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

from gpu_worker import samplers
from gpu_worker.families import family_of
from gpu_worker.pipelines import LoadedModel
from gpu_worker.request import GenerationRequest
from gpu_worker.stepping.adapters import Adapters
from gpu_worker.stepping.batch import Layouts
from gpu_worker.stepping.prepare import prepare
from gpu_worker.stepping.step import step
from gpu_worker.stepping.trajectory import Trajectory

hub: Any = diffusers  # whose calls are not typed
Models = Callable[[str], LoadedModel]
MakeRequest = Callable[..., GenerationRequest]

# Absolute, in fp32; latents here reach 100, a trained model's stay within 10.
TOLERANCE = 5e-4
CPU = torch.device("cpu")
DIFFUSION = ("ddim", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "unipc", "lcm")
CASES = [
    *((family, name) for family in ("sd", "tiny", "sdxl") for name in DIFFUSION),
    *((family, "flow_euler") for family in ("flux", "sd3")),
]
# Where the start differs and not the steps, samplers that differ in kind are enough for a second UNet.
SOME = [case for case in CASES if case[0] != "sdxl" or case[1] in ("euler", "dpmpp_2m", "unipc")]


@dataclass
class Guest:
    """A request that joins at a tick, and sits out some ticks."""

    request: GenerationRequest
    joins: int = 0
    absent: Sequence[int] = ()


def together(
    model: LoadedModel, guests: list[Guest], layouts: Layouts | None = None, row_limit: int | None = None
) -> list[torch.Tensor]:
    """Final latents of each, all present ones sharing every step."""
    family = family_of(model.pipe)
    assert family is not None
    layouts = layouts or Layouts()
    adapters = Adapters(model.pipe, CPU)
    running: dict[int, Trajectory] = {}
    tick = 0
    while len(running) < len(guests) or not all(one.finished for one in running.values()):
        for number, guest in enumerate(guests):
            if guest.joins == tick:
                running[number] = prepare(family, model, guest.request, adapters, CPU)
        present = [n for n, one in running.items() if not one.finished and tick not in guests[n].absent]
        if present:
            step(model.pipe, [running[n] for n in present], layouts, adapters, row_limit)
        tick += 1
    return [running[n].latents for n in range(len(guests))]


def alone(model: LoadedModel, request: GenerationRequest) -> torch.Tensor:
    """Latents of the stock pipeline for one picture."""
    pipe = model.pipe
    extra: dict[str, Any] = {}
    if request.init_image is not None:
        kind = hub.AutoPipelineForInpainting if request.mask else hub.AutoPipelineForImage2Image
        pipe = kind.from_pipe(pipe)
        pipe.set_progress_bar_config(disable=True)
        extra = {"image": Image.open(io.BytesIO(request.init_image)), "strength": request.strength}
        if request.mask:
            extra["mask_image"] = Image.open(io.BytesIO(request.mask))
    pipe = copy.copy(pipe)
    pipe.scheduler = samplers.build(request.scheduler, model.own_scheduler)
    accepts = inspect.signature(pipe.__call__).parameters
    if "width" in accepts:
        extra |= {"width": request.width, "height": request.height}
    if "true_cfg_scale" not in accepts:  # which is what makes a negative prompt count in FLUX
        extra["negative_prompt"] = request.negative_prompt or None
    latents: torch.Tensor = pipe(
        prompt=request.prompt,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="latent",
        **extra,
    ).images
    if "Flux" in type(pipe).__name__:
        latents = pipe._unpack_latents(latents, request.height, request.width, pipe.vae_scale_factor)
    return latents


def difference(model: LoadedModel, guests: list[Guest]) -> float:
    ends = together(model, guests)
    worst = 0.0
    for guest, end in zip(guests, ends, strict=True):
        for i, picture in enumerate(end):
            one = replace(guest.request, seed=guest.request.seed_of(i), num_images=1)
            worst = max(worst, float((picture - alone(model, one)[0]).abs().max()))
    return worst


def picture_of(seed: int, mode: str = "RGB") -> bytes:
    numbers = torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(seed)) * 255
    image = Image.fromarray(numbers.byte().numpy()).resize((64, 64)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def guests_of(make_request: MakeRequest, name: str, **changes: Any) -> list[Guest]:
    def request(seed: int, steps: int, guidance: float, **more: Any) -> GenerationRequest:
        return make_request(
            id=str(seed), seed=seed, steps=steps, guidance=guidance, scheduler=name, **{**changes, **more}
        )

    return [
        Guest(request(1, 7, 4.0)),
        Guest(request(2, 5, 1.0, prompt="a blue square")),
        Guest(request(3, 6, 3.0, negative_prompt="green"), joins=2, absent=(4, 5)),
        Guest(request(4, 4, 5.0, num_images=2), joins=3),
    ]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_text_to_image(models: Models, make_request: MakeRequest, family: str, name: str) -> None:
    assert difference(models(family), guests_of(make_request, name)) <= TOLERANCE


@pytest.mark.parametrize(("family", "name"), [case for case in SOME if case[0] != "tiny"])
def test_image_to_image(models: Models, make_request: MakeRequest, family: str, name: str) -> None:
    guests = guests_of(make_request, name, init_image=picture_of(1), strength=0.7)
    assert difference(models(family), guests[:3]) <= TOLERANCE


@pytest.mark.parametrize(("family", "name"), [case for case in SOME if case[0] != "tiny"])
def test_inpainting(models: Models, make_request: MakeRequest, family: str, name: str) -> None:
    images = {"init_image": picture_of(1), "mask": picture_of(2, "L")}
    guests = guests_of(make_request, name, strength=0.6, **images)
    guests[1].request = replace(guests[1].request, strength=1.0)
    assert difference(models(family), guests[:3]) <= TOLERANCE


def test_five_samplers_in_one_batch(models: Models, make_request: MakeRequest) -> None:
    names = ("ddim", "euler", "dpmpp_2m_karras", "unipc", "lcm")
    guests = [
        Guest(make_request(seed=n, steps=4 + n, scheduler=name), joins=n) for n, name in enumerate(names)
    ]
    assert difference(models("sd"), guests) <= TOLERANCE


def test_samplers_that_no_table_describes(models: Models, make_request: MakeRequest) -> None:
    """The model's own: an extra step (PNDM), two evaluations per step (Heun), clipping, noise of its own."""
    model = models("sd")
    for kind, settings in (
        (hub.PNDMScheduler, {"skip_prk_steps": True}),
        (hub.HeunDiscreteScheduler, {}),
        (hub.DDIMScheduler, {"clip_sample": True}),
        (hub.DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
        (hub.DPMSolverMultistepScheduler, {"solver_order": 3}),
    ):
        own = kind.from_config(model.own_scheduler.config, **settings)
        with_own = replace(model, own_scheduler=own)
        guests = [Guest(make_request(seed=n, steps=5 + n, guidance=2.0), joins=n) for n in range(3)]
        assert difference(with_own, guests) <= TOLERANCE, kind


def test_neighbours_change_no_bit_within_a_bucket(models: Models, make_request: MakeRequest) -> None:
    model = models("sd")
    first = Guest(make_request(seed=1, steps=4, scheduler="dpmpp_2m"))
    others = [Guest(make_request(seed=n, steps=3 + n, scheduler="euler_a"), joins=n) for n in (1, 2)]
    ends = [
        together(model, guests, Layouts((8,)))[guests.index(first)]
        for guests in ([first], [first, others[0]], [*others, first])
    ]
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_more_rows_than_fit_are_taken_in_several_passes(models: Models, make_request: MakeRequest) -> None:
    model = models("sd")
    guests = [Guest(make_request(num_images=3, steps=3))]
    whole = together(model, guests)[0]
    split = together(model, guests, row_limit=4)[0]
    assert (whole - split).abs().max() <= TOLERANCE


def test_half_precision_stays_close(models: Models, make_request: MakeRequest, sd_folder: Path) -> None:
    pipe = hub.StableDiffusionPipeline.from_pretrained(sd_folder, dtype=torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    model = LoadedModel.of(models("sd").source, pipe)
    guests = [Guest(make_request(seed=n, steps=3, guidance=2.0)) for n in range(2)]
    ends = together(model, guests)
    assert ends[0].dtype == torch.float32
    stock = alone(model, guests[0].request).float()
    assert (ends[0] - stock).abs().mean() <= 0.02 * stock.abs().mean()
