"""Which family drives a pipeline. A new family is one module with one class, added to the list here."""

from typing import Any

from gpu_worker.families.base import Family
from gpu_worker.families.flux import Flux
from gpu_worker.families.sd import StableDiffusion
from gpu_worker.families.sd3 import StableDiffusion3
from gpu_worker.families.sdxl import StableDiffusionXL

FAMILIES: tuple[Family, ...] = (StableDiffusion(), StableDiffusionXL(), StableDiffusion3(), Flux())


def family_of(pipe: Any) -> Family | None:
    """The family that can step this pipeline; None: it runs by its own call only.

    The class must match exactly: a subclass (PAG, ControlNet, …) does more in each step than its parent.
    """
    name = type(pipe).__name__
    return next((family for family in FAMILIES if name in family.pipelines and family.fits(pipe)), None)
