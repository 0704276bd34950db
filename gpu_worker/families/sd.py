"""Stable Diffusion 1.x and 2.x, and the built-in model: one text encoder, a UNet, cross-attention."""

from typing import Any

import torch

from gpu_worker.families.base import Conditions, Family, Prompt
from gpu_worker.request import GenerationRequest


class StableDiffusion(Family):
    """Repeats the loop of `StableDiffusionPipeline`."""

    pipelines = ("StableDiffusionPipeline",)

    def denoiser(self, pipe: Any) -> Any:
        return pipe.unet

    def encode_prompt(self, pipe: Any, request: GenerationRequest) -> Prompt:
        guided = is_guided(pipe.unet, request)
        positive, negative = pipe.encode_prompt(
            request.prompt, pipe.device, 1, guided, request.negative_prompt or None
        )
        return Prompt(
            {"text": positive, **guidance_condition(pipe, request)}, {"text": negative} if guided else None
        )

    def denoise(
        self, pipe: Any, latents: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        out: torch.Tensor = pipe.unet(
            latents,
            timesteps,
            encoder_hidden_states=conditions["text"],
            timestep_cond=conditions.get("guidance"),
            return_dict=False,
        )[0]
        return out


def is_guided(unet: Any, request: GenerationRequest) -> bool:
    """Guidance above 1 costs a second row, unless the UNet was distilled to take it as a number."""
    return request.guidance > 1 and unet.config.time_cond_proj_dim is None


def guidance_condition(pipe: Any, request: GenerationRequest) -> Conditions:
    """The guidance scale as a distilled UNet takes it, (1, D); nothing for any other."""
    width = pipe.unet.config.time_cond_proj_dim
    if width is None:
        return {}
    embedding = pipe.get_guidance_scale_embedding(torch.tensor([request.guidance - 1]), embedding_dim=width)
    return {"guidance": embedding.to(pipe.device, pipe.unet.dtype)}
