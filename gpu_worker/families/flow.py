"""What the flow-matching transformers share: noise by interpolation, steps counted without rounding."""

from abc import abstractmethod
from typing import Any

import torch

from gpu_worker.families.base import Family, shift_of
from gpu_worker.request import GenerationRequest


class FlowFamily(Family):
    """A transformer over 2x2 patches of latents, trained by flow matching."""

    # What `mu` of dynamic shifting ends at, unless the model's scheduler says.
    max_shift = 1.15

    @abstractmethod
    def sigmas(self, scheduler: Any, steps: int) -> list[float] | None:
        """Noise levels that the stock pipeline passes; None: it leaves them to the scheduler."""

    def denoiser(self, pipe: Any) -> Any:
        return pipe.transformer

    def set_timesteps(self, pipe: Any, scheduler: Any, request: GenerationRequest) -> None:
        patch = 2 * pipe.vae_scale_factor
        tokens = (request.height // patch) * (request.width // patch)
        options: dict[str, Any] = {}
        if scheduler.config.get("use_dynamic_shifting"):
            options["mu"] = shift_of(scheduler.config, tokens, self.max_shift)
        sigmas = self.sigmas(scheduler, request.steps)
        if sigmas is None:
            scheduler.set_timesteps(request.steps, device="cpu", **options)
        else:
            scheduler.set_timesteps(sigmas=sigmas, device="cpu", **options)

    def first_step(self, steps: int, strength: float) -> int:
        return int(max(steps - min(steps * strength, steps), 0))

    def add_noise(
        self, scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        if not hasattr(scheduler, "scale_noise"):
            return super().add_noise(scheduler, clean, noise, timestep)
        noisy: torch.Tensor = scheduler.scale_noise(clean, timestep.repeat(len(clean)), noise)
        return noisy
