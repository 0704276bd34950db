"""A random Stable Diffusion of the true classes, small enough for a picture in a fraction of a second."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from gpu_worker.config import EngineConfig
from gpu_worker.engine import Engine
from gpu_worker.request import GenerationRequest, ModelSource
from tests.gpu_worker.harness import Clock

hub: Any = diffusers  # whose calls are not typed


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _tokenizer(folder: Path) -> CLIPTokenizer:
    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def _pipeline(folder: Path) -> Any:
    torch.manual_seed(0)
    unet = hub.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
    )
    vae = hub.AutoencoderKL(
        block_out_channels=(16, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=54,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    return hub.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=_tokenizer(folder / "vocabulary"),
        unet=unet,
        scheduler=hub.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("models")
    _pipeline(base).save_pretrained(base / "sd")
    return base / "sd"


@pytest.fixture(scope="session")
def source(sd_folder: Path) -> ModelSource:
    return ModelSource(slug="random-sd", location=str(sd_folder), family="sd15")


@pytest.fixture
def config() -> EngineConfig:
    return EngineConfig(device="cpu", threads=1, encode_workers=1)


@pytest.fixture(scope="session")
def make_request(source: ModelSource) -> Callable[..., GenerationRequest]:
    base = GenerationRequest(
        id="r",
        model=source,
        prompt="a red ring",
        negative_prompt="",
        width=64,
        height=64,
        steps=3,
        guidance=3.0,
        seed=7,
        scheduler="default",
        num_images=1,
    )
    return lambda **changes: replace(base, **changes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(config: EngineConfig, clock: Clock) -> Iterator[Engine]:
    with Engine(config, clock=clock) as engine:
        yield engine
