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

    def encode_prompt(self, pipe: Any, request: GenerationRequest) -> Prompt:
        guided = self.is_guided(pipe, request)
        negative = request.negative_prompt or None
        text, negative_text, pooled, negative_pooled = pipe.encode_prompt(
            prompt=request.prompt,
            prompt_2=None,
            prompt_3=None,
            device=pipe._execution_device,
            do_classifier_free_guidance=guided,
            negative_prompt=negative,
        )
        positive = {"text": text, "pooled": pooled}
        return Prompt(positive, {"text": negative_text, "pooled": negative_pooled} if guided else None)

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
