"""Samplers by their public name. Only `build` imports diffusers; the table may be read anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpu_worker.errors import BadRequest

Prediction = Literal["diffusion", "flow", "other"]


@dataclass(frozen=True, slots=True)
class Sampler:
    """A diffusers scheduler class with the settings that make it this sampler for any model."""

    scheduler: str
    prediction: Prediction
    settings: Mapping[str, Any] = field(default_factory=dict)


# clip_sample: DDIM's default of True cuts latents to [-1, 1] if the model's own config does not mention it.
SAMPLERS: Mapping[str, Sampler] = {
    "ddim": Sampler("DDIMScheduler", "diffusion", {"clip_sample": False}),
    "euler": Sampler("EulerDiscreteScheduler", "diffusion", {"use_karras_sigmas": False}),
    "euler_a": Sampler("EulerAncestralDiscreteScheduler", "diffusion"),
    "dpmpp_2m": Sampler(
        "DPMSolverMultistepScheduler",
        "diffusion",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": False},
    ),
    "dpmpp_2m_karras": Sampler(
        "DPMSolverMultistepScheduler",
        "diffusion",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    "unipc": Sampler("UniPCMultistepScheduler", "diffusion", {"use_karras_sigmas": False}),
    "lcm": Sampler("LCMScheduler", "diffusion", {"clip_sample": False}),
    "flow_euler": Sampler("FlowMatchEulerDiscreteScheduler", "flow"),
}

# What the model was trained with. `from_config` replaces a value that is the old class's default by the new
# class's default, and those differ (beta_start: 0.0001 for DDIM, 0.00085 for LCM).
_TRAINED_WITH = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)


def allowed(prediction: Prediction) -> tuple[str, ...]:
    """Names that a model of this kind accepts: "diffusion" (epsilon, v or sample prediction), "flow" (flow
    matching) or "other" (a schedule of its own, which no other sampler can follow)."""
    return (*(name for name, sampler in SAMPLERS.items() if sampler.prediction == prediction), "default")


def prediction_of(scheduler: Any) -> Prediction:
    """What a model predicts, told from the scheduler it came with."""
    config = scheduler.config
    flow = config.get("prediction_type") == "flow_prediction" or config.get("use_flow_sigmas")
    if flow or type(scheduler).__name__.startswith("FlowMatch"):
        return "flow"
    return "diffusion" if "beta_schedule" in config else "other"


def build(name: str, own: Any) -> Any:
    """A fresh scheduler `name` with the noise schedule of the model's `own`; never shared between requests,
    since a scheduler keeps the state of one denoising run.

    Raises `BadRequest` naming the samplers that the model accepts.
    """
    names = allowed(prediction_of(own))
    if name not in names:
        raise BadRequest(f"this model cannot use the scheduler {name!r}; it accepts {', '.join(names)}")
    if name == "default":
        return type(own).from_config(own.config)
    import diffusers

    sampler = SAMPLERS[name]
    settings = {key: own.config[key] for key in _TRAINED_WITH if key in own.config}
    settings.update(sampler.settings)
    if sampler.prediction == "flow" and "shift" not in own.config and "flow_shift" in own.config:
        settings["shift"] = own.config["flow_shift"]  # solvers that also do flow matching name it so
    return getattr(diffusers, sampler.scheduler).from_config(own.config, **settings)
