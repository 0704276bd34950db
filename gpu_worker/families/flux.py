"""FLUX: a transformer over packed latents; guidance is a number that the model takes, never a second row."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from gpu_worker.families.base import Conditions, Prompt
from gpu_worker.families.flow import FlowFamily
from gpu_worker.request import GenerationRequest


class Flux(FlowFamily):
    """Repeats the loop of `FluxPipeline`."""

    pipelines = ("FluxPipeline",)

    def fits(self, pipe: Any) -> bool:
        return bool(pipe.transformer.config.in_channels == 4 * self.latent_channels(pipe))

    def sigmas(self, scheduler: Any, steps: int) -> list[float] | None:
        if scheduler.config.get("use_flow_sigmas"):
            return None
        return list(np.linspace(1.0, 1 / steps, steps))

    def encode_prompt(self, pipe: Any, request: GenerationRequest, device: torch.device) -> Prompt:
        text, pooled, _ = pipe.encode_prompt(request.prompt, None, device=device)
        conditions = {"text": text, "pooled": pooled}
        if pipe.transformer.config.guidance_embeds:
            conditions["guidance"] = torch.full([1], request.guidance, device=device)
        return Prompt(conditions, None)

    def denoise(
        self, pipe: Any, latents: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        rows, channels, height, width = latents.shape
        text = conditions["text"]
        out = pipe.transformer(
            hidden_states=pipe._pack_latents(latents, rows, channels, height, width),
            # In this order, as in the stock loop: bf16 rounds t and t / 1000 differently.
            timestep=timesteps.to(latents.dtype) / 1000,
            guidance=conditions.get("guidance"),
            pooled_projections=conditions["pooled"],
            encoder_hidden_states=text,
            txt_ids=_text_ids(text.shape[1], latents.device, text.dtype),
            img_ids=_image_ids(height // 2, width // 2, latents.device, text.dtype),
            return_dict=False,
        )[0]
        scale = pipe.vae_scale_factor
        unpacked: torch.Tensor = pipe._unpack_latents(out, height * scale, width * scale, scale)
        return unpacked


@lru_cache(maxsize=16)
def _text_ids(length: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(length, 3, device=device, dtype=dtype)


@lru_cache(maxsize=64)
def _image_ids(height: int, width: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Position of each patch, (height * width, 3): nothing, row, column."""
    ids = torch.zeros(height, width, 3)
    ids[..., 1] += torch.arange(height)[:, None]
    ids[..., 2] += torch.arange(width)[None, :]
    return ids.reshape(-1, 3).to(device, dtype)
