"""The sampler table against diffusers."""

import math
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from gpu_worker import samplers
from gpu_worker.errors import BadRequest

hub: Any = diffusers  # whose calls are not typed
DIFFUSION = ("ddim", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "unipc", "lcm", "default")


def sd15() -> Any:
    """The scheduler that Stable Diffusion 1.5 comes with."""
    return hub.PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def zero_snr() -> Any:
    """A v-prediction solver with options that other samplers must not inherit."""
    return hub.DPMSolverMultistepScheduler(
        prediction_type="v_prediction", timestep_spacing="trailing", use_karras_sigmas=True
    )


def test_allowed_names() -> None:
    assert samplers.allowed("diffusion") == DIFFUSION
    assert samplers.allowed("flow") == ("flow_euler", "default")
    assert samplers.allowed("other") == ("default",)


@pytest.mark.parametrize("name", DIFFUSION)
@pytest.mark.parametrize("own", [sd15(), zero_snr()], ids=["sd15", "v"])
def test_each_builds_fresh_on_the_models_schedule(name: str, own: Any) -> None:
    first, second = samplers.build(name, own), samplers.build(name, own)
    assert first is not second
    assert first is not own
    expected = type(own).__name__ if name == "default" else samplers.SAMPLERS[name].scheduler
    assert type(first).__name__ == expected
    for key in ("beta_start", "beta_end", "beta_schedule", "prediction_type"):
        assert first.config[key] == own.config[key]
    if name in ("euler", "dpmpp_2m", "dpmpp_2m_karras", "unipc"):
        assert first.config.use_karras_sigmas == (name == "dpmpp_2m_karras")
    if name != "default":
        assert not first.config.get("clip_sample")


@pytest.mark.parametrize("name", DIFFUSION)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_each_denoises_to_a_finite_latent(name: str, steps: int) -> None:
    scheduler = samplers.build(name, sd15())
    scheduler.set_timesteps(steps)
    sample = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    sample = sample * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        noise = scheduler.scale_model_input(sample, t) * 0.1
        sample = scheduler.step(noise, t, sample).prev_sample
    assert math.isfinite(sample.abs().max().item())


def test_flow_matching_models() -> None:
    own = hub.FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert samplers.prediction_of(own) == "flow"
    assert samplers.build("flow_euler", own).config.shift == 3.0
    assert samplers.build("default", own) is not own
    with pytest.raises(BadRequest, match=r"'euler'.*flow_euler, default"):
        samplers.build("euler", own)


def test_a_flow_model_that_comes_with_a_solver_keeps_its_shift() -> None:
    own = hub.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    assert samplers.build("flow_euler", own).config.shift == 3.0


def test_a_schedule_of_its_own_allows_only_default() -> None:
    own = hub.EDMEulerScheduler()
    assert isinstance(samplers.build("default", own), hub.EDMEulerScheduler)
    with pytest.raises(BadRequest, match="it accepts default"):
        samplers.build("euler", own)


@pytest.mark.parametrize("name", DIFFUSION)
def test_each_runs_in_the_stock_pipeline(sd_folder: Path, name: str) -> None:
    pipe: Any = hub.StableDiffusionPipeline.from_pretrained(sd_folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = samplers.build(name, pipe.scheduler)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    output = pipe(
        "a ring",
        num_inference_steps=2,
        num_images_per_prompt=2,
        width=64,
        height=64,
        generator=generators,
        output_type="pt",
    )
    assert torch.isfinite(output.images).all()
