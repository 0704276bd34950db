"""Writes the trained parts as a stock Stable Diffusion folder."""

from pathlib import Path

import torch
from transformers import CLIPTextModel

from gpu_worker.tiny.parts import StableDiffusionPipeline, Unet, Vae
from gpu_worker.tiny.tokenizer import build_tokenizer
from gpu_worker.tiny.unet import build_scheduler

PACKAGED = Path(__file__).resolve().parent.parent / "models" / "tiny"


def export(vae: Vae, unet: Unet, text: CLIPTextModel, folder: Path) -> None:
    """Write a folder that `StableDiffusionPipeline.from_pretrained` loads, weights in fp16 safetensors."""
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=build_tokenizer(folder / "tokenizer"),
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.to(dtype=torch.float16)
    pipe.save_pretrained(folder, safe_serialization=True)
    build_tokenizer(folder / "tokenizer")  # save_pretrained may leave out vocab.json and merges.txt
    pipe.to(dtype=torch.float32)


def folder_megabytes(folder: Path) -> float:
    """Size of all files in a folder, in 10^6 bytes."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
