"""Stable Diffusion 3: three text encoders, a transformer, classifier-free guidance."""

from typing import Any

import torch

from gpu_worker.families.base import Conditions, Prompt
from gpu_worker.families.flow import FlowFamily
from gpu_worker.request import GenerationRequest


class StableDiffusion3(FlowFamily):
    """Repeats the loop of `StableDiffusion3Pipeline`."""

    pipelines = ("StableDiffusion3Pipeline",)
    max_shift = 1.16

    def sigmas(self, scheduler: Any, steps: int) -> list[float] | None:
        return None

    def is_guided(self, pipe: Any, request: GenerationRequest) -> bool:
        return request.guidance > 1

    def encode_prompt(self, pipe: Any, request: GenerationRequest, device: torch.device) -> Prompt:
        guided = self.is_guided(pipe, request)
        texts = [request.prompt, request.negative_prompt] if guided else [request.prompt]
        text, _, pooled, _ = pipe.encode_prompt(
            texts, None, None, device=device, do_classifier_free_guidance=False
        )
        negative = {"text": text[1:], "pooled": pooled[1:]} if guided else None
        return Prompt({"text": text[:1], "pooled": pooled[:1]}, negative)

    def denoise(
        self, pipe: Any, latents: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        out: torch.Tensor = pipe.transformer(
            hidden_states=latents,
            timestep=timesteps,
            encoder_hidden_states=conditions["text"],
            pooled_projections=conditions["pooled"],
            return_dict=False,
        )[0]
        return out
