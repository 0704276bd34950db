"""The library classes the model is made of.

diffusers ships no types that a checker can use: they are said here once.
"""

from typing import Any

import diffusers

Vae = Any  # diffusers.AutoencoderKL
Unet = Any  # diffusers.UNet2DConditionModel
Pipeline = Any  # diffusers.StableDiffusionPipeline
Scheduler = Any  # one of diffusers' schedulers

AutoencoderKL: Any = diffusers.AutoencoderKL
UNet2DConditionModel: Any = diffusers.UNet2DConditionModel
StableDiffusionPipeline: Any = diffusers.StableDiffusionPipeline
DPMSolverMultistepScheduler: Any = diffusers.DPMSolverMultistepScheduler


def sampler_class(name: str) -> Any:
    """A scheduler class of diffusers by its name."""
    return getattr(diffusers, name)
