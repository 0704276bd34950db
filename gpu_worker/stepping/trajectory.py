"""One request on its way from noise to picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gpu_worker.families.base import Family, Prompt
from gpu_worker.request import LoraSource
from gpu_worker.stepping.plans import Plan

# A LoRA (whose own weight does not count) and how strongly it is applied.
AdapterUse = tuple[LoraSource, float]


@dataclass(frozen=True, slots=True)
class Kept:
    """What inpainting puts back after every step: clean latents and their noise, (n, C, h, w), and the mask,
    (1, 1, h, w), 1 where the picture is painted anew."""

    clean: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor


@dataclass(eq=False, slots=True)
class Trajectory:
    """A request's pictures between two steps. All that it needs to go on is here, so that pausing it is not
    picking it.

    `latents` are (n, C, h, w) in fp32, one row per picture; `timesteps` stay on the CPU and begin at
    `scheduler`'s index `begin`; with a `plan` the scheduler itself is not stepped. `history` is the last x0
    that a plan of two steps looks back on, `base` what a plan's corrector starts from. With a `failure` it
    cannot go on: its scheduler raised halfway.
    """

    family: Family
    latents: torch.Tensor
    prompt: Prompt
    guidance: float
    scheduler: Any
    timesteps: torch.Tensor
    generators: list[torch.Generator]
    plan: Plan | None = None
    kept: Kept | None = None
    adapters: tuple[AdapterUse, ...] = ()
    done: int = 0
    failure: Exception | None = None
    history: torch.Tensor = field(init=False)
    base: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.history = torch.zeros_like(self.latents)
        self.base = self.latents

    @property
    def steps(self) -> int:
        """Denoiser calls to be made; some samplers make more than were asked for."""
        return len(self.timesteps)

    @property
    def finished(self) -> bool:
        return self.done >= self.steps

    @property
    def pictures(self) -> int:
        return len(self.latents)

    @property
    def rows(self) -> int:
        """Denoiser rows per step: one per picture, two under classifier-free guidance."""
        return self.pictures * (1 if self.prompt.negative is None else 2)

    def shape_key(self) -> tuple[object, ...]:
        """Equal for trajectories that one forward pass can take together."""
        conditions = sorted((name, tensor.shape[1:]) for name, tensor in self.prompt.positive.items())
        return (self.latents.shape[1:], *conditions)

    def noise(self) -> torch.Tensor:
        """Fresh noise, one generator per picture, so that it depends neither on device nor on neighbours."""
        return draw(self.generators, self.latents.shape[1:], self.latents.device)


def draw(generators: list[torch.Generator], shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """Standard normal numbers, (n, *shape) for n CPU generators."""
    return torch.cat([torch.randn((1, *shape), generator=generator) for generator in generators]).to(device)
