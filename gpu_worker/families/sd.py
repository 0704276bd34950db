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

    def is_guided(self, pipe: Any, request: GenerationRequest) -> bool:
        return request.guidance > 1 and not takes_guidance(pipe.unet)

    def encode_prompt(self, pipe: Any, request: GenerationRequest, device: torch.device) -> Prompt:
        guided = self.is_guided(pipe, request)
        texts = [request.prompt, request.negative_prompt] if guided else [request.prompt]
        embedded, _ = pipe.encode_prompt(texts, device, 1, False)
        condition = guidance_condition(pipe, request, device)
        return Prompt({"text": embedded[:1], **condition}, {"text": embedded[1:]} if guided else None)

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


def takes_guidance(unet: Any) -> bool:
    """Whether it was distilled to take the guidance scale as a number."""
    return unet.config.time_cond_proj_dim is not None


def guidance_condition(pipe: Any, request: GenerationRequest, device: torch.device) -> Conditions:
    """The guidance scale as a distilled UNet takes it, (1, D); nothing for any other."""
    if not takes_guidance(pipe.unet):
        return {}
    width = pipe.unet.config.time_cond_proj_dim
    embedding = pipe.get_guidance_scale_embedding(torch.tensor([request.guidance - 1]), embedding_dim=width)
    return {"guidance": embedding.to(device, pipe.unet.dtype)}
