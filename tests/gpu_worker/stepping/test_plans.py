"""Tables of coefficients against the schedulers they stand for."""

import inspect
from typing import Any

import diffusers
import pytest
import torch

from gpu_worker import samplers
from gpu_worker.stepping.plans import plan

hub: Any = diffusers  # whose calls are not typed

SD15 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
OWN = {
    "epsilon": {**SD15, "timestep_spacing": "leading"},
    "v": {**SD15, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
}
PLANNED = ("ddim", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "lcm", "unipc")


def denoiser(latents: torch.Tensor) -> torch.Tensor:
    """Any smooth function will do."""
    return torch.tanh(latents) * 0.8


def by_scheduler(scheduler: Any, latents: torch.Tensor, begin: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    scheduler.set_begin_index(begin) if hasattr(scheduler, "set_begin_index") else None
    for t in scheduler.timesteps[begin:]:
        out = denoiser(scheduler.scale_model_input(latents, t))
        draws = "generator" in inspect.signature(scheduler.step).parameters
        options = {"generator": generator} if draws and "DDIM" not in type(scheduler).__name__ else {}
        latents = scheduler.step(out, t, latents, return_dict=False, **options)[0]
    return latents


def by_plan(scheduler: Any, latents: torch.Tensor, begin: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    made = plan(scheduler, begin)
    assert made is not None
    base, history = latents, torch.zeros_like(latents)
    for scale, p, q, a, b, c, n, k, d, e, g in made.table.tolist():
        expected = p * latents + q * denoiser(scale * latents)
        corrected = base + k * expected if made.corrects else latents
        latents = a * corrected + b * expected + c * history
        base = d * corrected + e * expected + g * history
        history = expected
        if n:
            latents = latents + n * torch.randn(latents.shape, generator=generator)
    return latents


@pytest.mark.parametrize("begin", [0, 3])
@pytest.mark.parametrize("steps", [1, 2, 10, 30])
@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("name", PLANNED)
def test_same_end(name: str, own: str, steps: int, begin: int) -> None:
    if begin >= steps:
        return
    scheduler = samplers.build(name, hub.DDIMScheduler(**OWN[own]))
    scheduler.set_timesteps(steps)
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    start = start * scheduler.init_noise_sigma
    expected = by_scheduler(scheduler, start, begin)
    assert torch.allclose(by_plan(scheduler, start, begin), expected, atol=5e-5, rtol=1e-5)


def test_unipc_leaves_out_corrections_that_are_switched_off() -> None:
    scheduler = hub.UniPCMultistepScheduler(**OWN["epsilon"], disable_corrector=[0, 4])
    scheduler.set_timesteps(12)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    ours = by_plan(scheduler, latents, 0)
    assert torch.allclose(ours, by_scheduler(scheduler, latents, 0), atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching(shift: float) -> None:
    scheduler = hub.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(12)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    ours = by_plan(scheduler, latents, 0)
    for t in scheduler.timesteps:
        latents = scheduler.step(denoiser(latents), t, latents, return_dict=False)[0]
    assert torch.allclose(ours, latents, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("PNDMScheduler", {}),
        ("UniPCMultistepScheduler", {"solver_type": "bh1"}),
        ("UniPCMultistepScheduler", {"solver_order": 3}),
        ("UniPCMultistepScheduler", {"lower_order_final": False, "final_sigmas_type": "zero"}),
        ("DDIMScheduler", {"clip_sample": True}),
        ("DPMSolverMultistepScheduler", {"solver_order": 3}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("DPMSolverMultistepScheduler", {"solver_type": "heun"}),
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),
    ],
)
def test_what_no_table_can_say(kind: str, settings: dict[str, Any]) -> None:
    scheduler = getattr(hub, kind)(**settings)
    scheduler.set_timesteps(5)
    assert plan(scheduler, 0) is None
