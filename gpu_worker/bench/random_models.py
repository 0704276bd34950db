"""Stable Diffusion 1.5 and SDXL in their true sizes with random weights: as fast as trained ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from gpu_worker.request import ModelSource

_hub: Any = diffusers  # whose calls are not typed
Options = Mapping[str, Any]

SD15_UNET: Options = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SDXL_UNET: Options = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
    "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE: Options = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
CLIP_L: Options = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
CLIP_BIG_G: Options = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}


def save_sd15(folder: Path, device: torch.device, dtype: torch.dtype) -> ModelSource:
    """Write a pipeline folder; its numbers are drawn on `device`, which is much faster on a GPU."""
    with device:
        parts = {
            "unet": unet(SD15_UNET),
            "vae": _hub.AutoencoderKL(sample_size=512, **VAE),
            "text_encoder": CLIPTextModel(_text(CLIP_L)),
        }
    options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return _save("StableDiffusionPipeline", parts, folder, dtype, "sd15", **options)


def save_sdxl(folder: Path, device: torch.device, dtype: torch.dtype) -> ModelSource:
    """As `save_sd15`."""
    with device:
        parts = {
            "unet": unet(SDXL_UNET),
            "vae": _hub.AutoencoderKL(sample_size=1024, scaling_factor=0.13025, force_upcast=True, **VAE),
            "text_encoder": CLIPTextModel(_text(CLIP_L)),
            "text_encoder_2": CLIPTextModelWithProjection(_text(CLIP_BIG_G)),
        }
    return _save("StableDiffusionXLPipeline", parts, folder, dtype, "sdxl", add_watermarker=False)


def unet(options: Options) -> Any:
    """A denoiser with random weights."""
    return _hub.UNet2DConditionModel(**options)


def _text(options: Options) -> CLIPTextConfig:
    words: dict[str, Any] = {"vocab_size": 49408, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return CLIPTextConfig(max_position_embeddings=77, **words, **options)


def _save(
    pipeline: str, parts: dict[str, Any], folder: Path, dtype: torch.dtype, family: str, **options: Any
) -> ModelSource:
    for name in [name for name in parts if name.startswith("text_encoder")]:
        options[name.replace("text_encoder", "tokenizer")] = _tokenizer(folder / f"{name} words")
    scheduler = _hub.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    pipe = getattr(_hub, pipeline)(**parts, **options, scheduler=scheduler)
    pipe.to(dtype=dtype)
    pipe.save_pretrained(folder / family)
    return ModelSource(f"random-{family}", str(folder / family), family)


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """Letters only; the text encoder has room for the usual vocabulary all the same."""
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
