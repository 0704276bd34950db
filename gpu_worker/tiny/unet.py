"""The denoiser, its text encoder and its noise schedule."""

from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from gpu_worker.tiny.parts import DPMSolverMultistepScheduler, Scheduler, Unet, UNet2DConditionModel
from gpu_worker.tiny.tokenizer import MAX_TOKENS
from gpu_worker.tiny.vae import LATENTS

WIDTH = 128
TRAIN_STEPS = 1000
# Linear betas end at a signal of 0.6 %: in effect pure noise, yet finite, so that Euler and DPM++ need no
# special case.
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}


def build_unet() -> Unet:
    """An untrained denoiser for (B, 4, 16, 16) latents.

    The caption reaches it twice: pooled into the time embedding, which scales and shifts every layer (colours
    are learned from that within minutes), and by cross-attention on both levels (which of two things is red).
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENTS,
        out_channels=LATENTS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 4),
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_text_encoder(vocab_size: int, start: int, end: int) -> CLIPTextModel:
    """An untrained CLIP text model of two layers; it is trained together with the denoiser."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="gelu",
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def build_scheduler() -> Scheduler:
    """The sampler a plain `pipe(prompt)` uses; other samplers take the same settings by `from_config`.

    The last two settings are for DDIM, which by default clips latents as if they were pixels: without them
    its pictures come out in the complementary colours.
    """
    config = {
        **SCHEDULE,
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "clip_sample": False,
        "set_alpha_to_one": False,
    }
    return DPMSolverMultistepScheduler.from_config(config)


def noise_levels() -> tuple[torch.Tensor, torch.Tensor]:
    """Signal and noise of each timestep, (1000,) each; their squares add up to one."""
    first, last = SCHEDULE["beta_start"], SCHEDULE["beta_end"]
    betas = torch.linspace(first, last, TRAIN_STEPS, dtype=torch.float64)
    kept = torch.cumprod(1.0 - betas, dim=0)
    return kept.sqrt().float(), (1.0 - kept).sqrt().float()
