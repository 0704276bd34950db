"""Random models of the true classes, a few thousand weights each, one per family."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from gpu_worker.pipelines import LoadedModel
from gpu_worker.request import ModelSource

hub: Any = diffusers  # whose calls are not typed


def tokenizer(folder: Path) -> CLIPTokenizer:
    folder.mkdir(exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def t5_tokenizer() -> Any:
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    vocabulary += [(letter, -2.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=16)


def text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=54,
        hidden_size=32,
        intermediate_size=64,
        projection_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def t5() -> Any:
    config = T5Config(vocab_size=64, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, pad_token_id=0)
    return T5EncoderModel(config).train(False)


def vae(channels: int, **changes: Any) -> Any:
    return hub.AutoencoderKL(
        block_out_channels=(16, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=64,
        **changes,
    )


def unet(**changes: Any) -> Any:
    options: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
    }
    return hub.UNet2DConditionModel(**{**options, **changes})


def diffusion_scheduler() -> Any:
    return hub.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)


def build_sd(folder: Path) -> Any:
    return hub.StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=CLIPTextModel(text_config()),
        tokenizer=tokenizer(folder),
        unet=unet(),
        scheduler=diffusion_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_tiny_like(folder: Path) -> Any:
    """With the options of the built-in model: the caption in the time embedding, v-prediction."""
    pipe = build_sd(folder)
    pipe.unet = unet(
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )
    pipe.scheduler = hub.DPMSolverMultistepScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )
    return pipe


def build_sdxl(folder: Path) -> Any:
    projected = unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
        cross_attention_dim=64,
    )
    return hub.StableDiffusionXLPipeline(
        vae=vae(4),
        text_encoder=CLIPTextModel(text_config()),
        text_encoder_2=CLIPTextModelWithProjection(text_config()),
        tokenizer=tokenizer(folder),
        tokenizer_2=tokenizer(folder),
        unet=projected,
        scheduler=diffusion_scheduler(),
        add_watermarker=False,
    )


def build_flux(folder: Path) -> Any:
    transformer = hub.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    return hub.FluxPipeline(
        scheduler=hub.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(4, shift_factor=0.1, scaling_factor=0.36, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModel(text_config()),
        tokenizer=tokenizer(folder),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
    )


def build_sd3(folder: Path) -> Any:
    transformer = hub.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        out_channels=16,
        pos_embed_max_size=16,
    )
    return hub.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=hub.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=CLIPTextModelWithProjection(text_config()),
        tokenizer=tokenizer(folder),
        text_encoder_2=CLIPTextModelWithProjection(text_config()),
        tokenizer_2=tokenizer(folder),
        text_encoder_3=None,
        tokenizer_3=None,
    )


BUILDERS: dict[str, Callable[[Path], Any]] = {
    "sd": build_sd,
    "tiny": build_tiny_like,
    "sdxl": build_sdxl,
    "flux": build_flux,
    "sd3": build_sd3,
}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    """A model by the name of its family, built once."""
    built: dict[str, LoadedModel] = {}

    def get(name: str) -> LoadedModel:
        if name not in built:
            torch.manual_seed(0)
            pipe = BUILDERS[name](tmp_path_factory.mktemp(name))
            pipe.set_progress_bar_config(disable=True)
            source = ModelSource(slug=name, location=name, family=name)
            built[name] = LoadedModel.of(source, pipe)
        return built[name]

    return get
