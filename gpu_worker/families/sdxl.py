"""Stable Diffusion XL: two text encoders; the pooled text and the picture's size join the time embedding."""

from typing import Any

import torch

from gpu_worker.families.base import Conditions, Family, Prompt
from gpu_worker.families.sd import guidance_condition, takes_guidance
from gpu_worker.request import GenerationRequest


class StableDiffusionXL(Family):
    """Repeats the loop of `StableDiffusionXLPipeline`."""

    pipelines = ("StableDiffusionXLPipeline",)

    def denoiser(self, pipe: Any) -> Any:
        return pipe.unet

    def is_guided(self, pipe: Any, request: GenerationRequest) -> bool:
        return request.guidance > 1 and not takes_guidance(pipe.unet)

    def encode_prompt(self, pipe: Any, request: GenerationRequest, device: torch.device) -> Prompt:
        guided = self.is_guided(pipe, request)
        is_zero = not request.negative_prompt and pipe.config.force_zeros_for_empty_prompt
        texts = [request.prompt, request.negative_prompt] if guided and not is_zero else [request.prompt]
        text, _, pooled, _ = pipe.encode_prompt(texts, device=device, do_classifier_free_guidance=False)
        # Original size, crop corner, target size: as of a training picture neither scaled nor cropped.
        size = [request.height, request.width, 0, 0, request.height, request.width]
        sizes = torch.tensor([size], dtype=text.dtype, device=device)
        condition = guidance_condition(pipe, request, device)
        positive = {"text": text[:1], "pooled": pooled[:1], "sizes": sizes, **condition}
        if not guided:
            return Prompt(positive, None)
        if is_zero:
            text, pooled = torch.zeros_like(text), torch.zeros_like(pooled)
        return Prompt(positive, {"text": text[-1:], "pooled": pooled[-1:], "sizes": sizes})

    def denoise(
        self, pipe: Any, latents: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        out: torch.Tensor = pipe.unet(
            latents,
            timesteps,
            encoder_hidden_states=conditions["text"],
            timestep_cond=conditions.get("guidance"),
            added_cond_kwargs={"text_embeds": conditions["pooled"], "time_ids": conditions["sizes"]},
            return_dict=False,
        )[0]
        return out
