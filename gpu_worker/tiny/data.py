"""Training data: pictures for the autoencoder, and encoded scenes with captions for the denoiser.

Everything follows from a seed and an index, so any part can be made again by anyone.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageFilter
from PIL.Image import fromarray
from torch import Tensor
from transformers import CLIPTokenizer

from gpu_worker.tiny.captions import captions
from gpu_worker.tiny.parts import Vae
from gpu_worker.tiny.render import Picture, draw, thing_mask
from gpu_worker.tiny.tokenizer import MAX_TOKENS
from gpu_worker.tiny.world import RELATIONS, Scene, random_scene

SIDE = 128
CAPTIONS_EACH = 6
_CHUNK = 1_000


def scene_at(seed: int, index: int) -> Scene:
    """The training scene of that number."""
    return random_scene(random.Random(f"scene {seed} {index}"))


def _decorated(scene: Scene, rng: random.Random) -> Picture:
    """A scene with free colours, rims and a gradient or stripes behind it: what a style may bring."""
    across, down = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
    wave = across * rng.uniform(-1, 1) + down * rng.uniform(-1, 1)
    if rng.random() < 0.5:
        wave = np.floor(wave * rng.uniform(4, 14)) % 2
    ends = np.array([[rng.uniform(0, 255) for _ in range(3)] for _ in range(2)])
    picture = ends[0] + np.clip(wave, 0, 1)[..., None] * (ends[1] - ends[0])
    rim = 1.0 + rng.uniform(0.05, 0.3)
    for thing in scene.things:
        for part in (replace(thing, width=thing.width * rim), thing):
            fill = np.array([rng.uniform(0, 255) for _ in range(3)])
            picture += thing_mask(part, SIDE)[..., None] * (fill - picture)
    pixels: Picture = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        pixels = np.asarray(fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3))))
    return pixels


def to_tensor(pictures: list[Picture]) -> Tensor:
    """(B, 3, H, W) in -1..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def vae_batches(seed: int, batch: int) -> Iterator[Tensor]:
    """Endless batches for the autoencoder, three quarters of them scenes of the world."""
    index = 0
    while True:
        pictures = []
        for _ in range(batch):
            rng = random.Random(f"vae {seed} {index}")
            scene = random_scene(rng)
            pictures.append(_decorated(scene, rng) if rng.random() < 0.25 else draw(scene, SIDE))
            index += 1
        yield to_tensor(pictures)


@dataclass(frozen=True)
class EncodedScenes:
    """`latents` (N, 4, 16, 16) float16, standardised; `tokens` (N, CAPTIONS_EACH, MAX_TOKENS) int16.

    `pairs` (N,) says where two things are shown that differ.
    """

    latents: NDArray[np.float16]
    tokens: NDArray[np.int16]
    pairs: NDArray[np.bool_]

    def save(self, path: Path) -> None:
        """Write to one file, whole or not at all."""
        part = path.with_suffix(".part.npz")
        np.savez(part, latents=self.latents, tokens=self.tokens, pairs=self.pairs)
        part.replace(path)

    @staticmethod
    def load(path: Path) -> "EncodedScenes":
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return EncodedScenes(arrays["latents"], arrays["tokens"], arrays["pairs"])


def _chunk(seed: int, start: int, count: int) -> tuple[Picture, list[str]]:
    """Pictures (count, H, W, 3) and CAPTIONS_EACH captions of each, in a worker process."""
    scenes = [scene_at(seed, i) for i in range(start, start + count)]
    texts = [
        text
        for i, scene in enumerate(scenes, start)
        for text in captions(scene, random.Random(f"words {seed} {i}"), CAPTIONS_EACH)
    ]
    return np.stack([draw(scene, SIDE) for scene in scenes]), texts


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """(len(texts), MAX_TOKENS), padded the way the stock pipeline pads."""
    batch = tokenizer(
        texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    )
    ids: Tensor = batch.input_ids
    return ids


@torch.no_grad()
def encode_scenes(vae: Vae, tokenizer: CLIPTokenizer, seed: int, count: int) -> EncodedScenes:
    """Draw, say and encode `count` training scenes (a multiple of 1,000); two processes draw."""
    latents, tokens = [], []
    with ProcessPoolExecutor(2) as pool:
        starts = range(0, count, _CHUNK)
        for pictures, texts in pool.map(_chunk, [seed] * len(starts), starts, [_CHUNK] * len(starts)):
            ids = token_ids(tokenizer, texts).numpy().astype(np.int16)
            tokens.append(ids.reshape(-1, CAPTIONS_EACH, MAX_TOKENS))
            for part in np.split(pictures, _CHUNK // 50):
                batch = to_tensor(list(part)).contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    mean = vae.encode(batch).latent_dist.mean
                latents.append(mean.float().numpy().astype(np.float16))
    pairs = np.array([scene_at(seed, i).relation in RELATIONS for i in range(count)])
    return EncodedScenes(np.concatenate(latents), np.concatenate(tokens), pairs)
