"""What the engine must know of a model architecture, in terms of diffusers' own components."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from gpu_worker.request import GenerationRequest

# One denoiser row's conditions by name, each with a batch axis of 1; a batch concatenates its rows by name.
Conditions = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Conditions of the row that follows the prompt and, under classifier-free guidance, of the one that
    follows the negative prompt."""

    positive: Conditions
    negative: Conditions | None


class Family(ABC):
    """Everything a denoising loop needs from one architecture. Has no state: the pipeline is passed in.

    Latents are (B, C, h, w) in fp32, whatever form the denoiser wants; pixels are (B, 3, H, W) in [-1, 1].
    """

    # Names of the text-to-image pipelines whose stock loop this family repeats.
    pipelines: ClassVar[tuple[str, ...]]

    @abstractmethod
    def denoiser(self, pipe: Any) -> Any:
        """The module that is called once per step."""

    def is_guided(self, pipe: Any, request: GenerationRequest) -> bool:
        """Whether each picture takes a second row, that of the negative prompt."""
        return False

    @abstractmethod
    def encode_prompt(self, pipe: Any, request: GenerationRequest, device: torch.device) -> Prompt:
        """Run the text encoders, prompt and negative prompt in one pass: on a GPU, where their many small
        layers wait for the host, two texts take no longer than one. Guidance that costs no second row is a
        condition. `device`: where the model runs; pipelines look for it in every module.
        """

    @abstractmethod
    def denoise(
        self, pipe: Any, latents: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """One forward pass: latents in the denoiser's dtype and timesteps (B,) in fp32, to (B, C, h, w)."""

    def fits(self, pipe: Any) -> bool:
        """Whether the denoiser takes plain latents (an inpainting one wants the mask in more channels)."""
        return bool(self.denoiser(pipe).config.in_channels == self.latent_channels(pipe))

    def latent_channels(self, pipe: Any) -> int:
        return int(pipe.vae.config.latent_channels)

    def set_timesteps(self, pipe: Any, scheduler: Any, request: GenerationRequest) -> None:
        """Lay out the timesteps, on the CPU. Raises `ValueError` for a number that the sampler cannot do."""
        scheduler.set_timesteps(request.steps, device="cpu")

    def first_step(self, steps: int, strength: float) -> int:
        """How many of `steps` are left out when an image is changed by `strength` in 0..1."""
        return max(steps - min(int(steps * strength), steps), 0)

    def add_noise(
        self, scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        """Clean latents as they would be at `timestep` (a CPU tensor of one element)."""
        noisy: torch.Tensor = scheduler.add_noise(clean, noise, timestep.repeat(len(clean)))
        return noisy

    def encode_image(
        self, pipe: Any, pixels: torch.Tensor, generators: list[torch.Generator]
    ) -> torch.Tensor:
        """Latents of one image, (1, 3, H, W) to (n, C, h, w): one sample of the posterior per generator."""
        with full_precision(pipe.vae) as vae:
            encoded = vae.encode(pixels.to(vae.device, vae.dtype))
        latents: torch.Tensor
        if not hasattr(encoded, "latent_dist"):  # a distilled autoencoder has no posterior
            latents = encoded.latents.repeat(len(generators), 1, 1, 1)
        else:
            latents = torch.cat([encoded.latent_dist.sample(generator) for generator in generators])
        latents = latents.float()
        mean, std = _statistics(vae, latents)
        if mean is not None and std is not None:
            return (latents - mean) * float(vae.config.scaling_factor) / std
        return (latents - float(vae.config.get("shift_factor") or 0.0)) * float(vae.config.scaling_factor)

    def decode(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:
        """Pixels of latents, (B, C, h, w) to (B, 3, H, W)."""
        config = pipe.vae.config
        mean, std = _statistics(pipe.vae, latents)
        if mean is not None and std is not None:
            latents = latents * std / config.scaling_factor + mean
        else:
            latents = latents / config.scaling_factor + (config.get("shift_factor") or 0.0)
        with full_precision(pipe.vae) as vae:
            pixels: torch.Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return pixels


@contextmanager
def full_precision(vae: Any) -> Iterator[Any]:
    """The autoencoder, in fp32 for as long as needed where its numbers overflow in fp16 (SDXL's do)."""
    upcast = vae.dtype == torch.float16 and vae.config.get("force_upcast")
    if upcast:
        vae.to(torch.float32)
    try:
        yield vae
    finally:
        if upcast:
            vae.to(torch.float16)


def shift_of(config: Any, tokens: int, max_shift: float) -> float:
    """The `mu` of dynamic shifting: linear in the number of image tokens (diffusers' `calculate_shift`)."""
    base_tokens, max_tokens = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", max_shift)
    slope = (high - low) / (max_tokens - base_tokens)
    return float(tokens * slope + low - slope * base_tokens)


def _statistics(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is None or std is None:
        return None, None
    return (like.new_tensor(mean).view(1, -1, 1, 1), like.new_tensor(std).view(1, -1, 1, 1))
