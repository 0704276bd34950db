"""A Stable Diffusion pipeline as one checkpoint in the layout of its authors, for what reads such files.

The names are those that diffusers' own converter reads (`diffusers.loaders.single_file_utils`), backwards.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

_RESNET: Rules = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
)
_UNET: Rules = (
    (r"^down_blocks\.(\d)\.downsamplers\.0\.conv", lambda m: f"input_blocks.{2 * int(m[1]) + 2}.0.op"),
    (r"^down_blocks\.(\d)\.resnets\.0", lambda m: f"input_blocks.{2 * int(m[1]) + 1}.0"),
    (r"^down_blocks\.(\d)\.attentions\.0", lambda m: f"input_blocks.{2 * int(m[1]) + 1}.1"),
    (r"^up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.0"),
    (r"^up_blocks\.(\d)\.attentions\.(\d)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.1"),
    (r"^up_blocks\.(\d)\.upsamplers\.0", lambda m: f"output_blocks.{2 * int(m[1]) + 1}.1"),
    (r"^conv_in", "input_blocks.0.0"),
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
    (r"^mid_block\.resnets\.0", "middle_block.0"),
    (r"^mid_block\.resnets\.1", "middle_block.2"),
)
_VAE: Rules = (
    (r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}"),
    (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"group_norm", "norm"),
    (r"to_([qkv])\.", r"\1."),
    (r"to_out\.0", "proj_out"),
)


def save_single_file(pipe: Any, path: Path) -> None:
    """Write `pipe` to `path`: a small one, whose UNet has no attention where it goes up in size and one layer
    per block, and whose autoencoder has four blocks."""
    checkpoint: dict[str, torch.Tensor] = {}
    for name, tensor in pipe.unet.state_dict().items():
        renamed = _by_rules(name, _UNET)
        renamed = _by_rules(renamed, _RESNET) if "resnets" in name else renamed
        checkpoint["model.diffusion_model." + renamed] = tensor
    for name, tensor in pipe.vae.state_dict().items():
        is_projection = "attentions" in name and tensor.dim() == 2  # 1x1 convolutions there
        value = tensor[:, :, None, None] if is_projection else tensor
        checkpoint["first_stage_model." + _by_rules(name, _VAE)] = value
    for name, tensor in pipe.text_encoder.state_dict().items():
        prefix = "" if name.startswith("text_model.") else "text_model."
        checkpoint["cond_stage_model.transformer." + prefix + name] = tensor
    save_file({name: tensor.contiguous() for name, tensor in checkpoint.items()}, path)


def _by_rules(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
