"""Trains the whole model: `python -m gpu_worker.tiny.train --out DIR`. Interrupted, it goes on where it was.

Stages: autoencoder, encoded scenes, denoiser with text encoder, decoder alone, stock folder in DIR/model.
"""

import argparse
import logging
from functools import partial
from pathlib import Path

import torch

from gpu_worker.tiny.data import SIDE, EncodedScenes, encode_scenes, vae_batches
from gpu_worker.tiny.denoise import Settings, Trainer, train_together
from gpu_worker.tiny.export import export, folder_megabytes
from gpu_worker.tiny.parts import Vae
from gpu_worker.tiny.progress import progress
from gpu_worker.tiny.tokenizer import build_tokenizer
from gpu_worker.tiny.vae import build_vae, fold_standardisation, train_vae

SEED = 7
VAE_STEPS, DECODER_STEPS, VAE_BATCH = 1_500, 2_000, 8
SCENES = 24_000

log = logging.getLogger("gpu_worker.tiny.train")


def _standardise(vae: Vae) -> None:
    """Measure the latents of a few hundred pictures and fold their mean and spread into the autoencoder."""
    batches = vae_batches(SEED + 1, 32)
    with torch.no_grad():
        latents = torch.cat([vae.encode(next(batches)).latent_dist.mean for _ in range(16)])
    flat = latents.transpose(0, 1).flatten(1)
    fold_standardisation(vae, flat.mean(dim=1), flat.std(dim=1))


def _decibels(vae: Vae) -> float:
    """Peak signal to noise of pictures that training has not seen."""
    pictures = next(vae_batches(SEED + 2, 32))
    with torch.no_grad():
        error = (vae(pictures).sample - pictures).square().mean()
    return float(10 * torch.log10(4 / error))


def autoencoder(out: Path, steps: int) -> Vae:
    """Train the autoencoder, or load it where it is already trained."""
    path = out / "vae.pt"
    vae = build_vae().to(memory_format=torch.channels_last)
    if path.exists():
        vae.load_state_dict(torch.load(path))
        return vae.eval()
    torch.manual_seed(SEED)
    train_vae(vae, vae_batches(SEED, VAE_BATCH), steps, progress("vae", steps))
    _standardise(vae)
    torch.save(vae.state_dict(), path)
    log.info("vae: %.1f dB on new pictures of %d px", _decibels(vae), SIDE)
    return vae


def sharpen(out: Path, vae: Vae, steps: int) -> None:
    """Train the decoder further, in place, on latents that no longer change."""
    path = out / "vae_sharp.pt"
    if not path.exists():
        torch.manual_seed(SEED + 3)
        report = progress("decoder", steps)
        train_vae(vae, vae_batches(SEED + 3, VAE_BATCH), steps, report, noise=0.05, decoder_only=True)
        torch.save(vae.state_dict(), path)
        log.info("decoder: %.1f dB on new pictures of %d px", _decibels(vae), SIDE)
    vae.load_state_dict(torch.load(path))


def scenes(out: Path, vae: Vae, count: int) -> EncodedScenes:
    """Encode the training scenes, or load them."""
    path = out / "scenes.npz"
    if not path.exists():
        log.info("encoding %d scenes", count)
        encode_scenes(vae, build_tokenizer(out / "tokenizer"), SEED, count).save(path)
    return EncodedScenes.load(path)


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for checkpoints and the finished model"
    )
    parser.add_argument("--steps", type=int, default=Settings.steps, help="denoiser steps")
    parser.add_argument("--vae-steps", type=int, default=VAE_STEPS)
    parser.add_argument("--decoder-steps", type=int, default=DECODER_STEPS)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True, help="go on from DIR's checkpoints"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.resume:
        for name in ("vae.pt", "vae_sharp.pt", "scenes.npz", "denoiser.pt"):
            (args.out / name).unlink(missing_ok=True)
    vae = autoencoder(args.out, args.vae_steps)
    tokenizer = build_tokenizer(args.out / "tokenizer")
    data = scenes(args.out, vae, args.scenes)
    settings = Settings(steps=args.steps, seed=SEED)
    make = partial(Trainer, data, tokenizer, settings, args.out / "denoiser.pt")
    train_together(make, args.steps)
    sharpen(args.out, vae, args.decoder_steps)
    unet, text = make().averaged()
    export(vae, unet, text, args.out / "model")
    log.info("wrote %s, %.1f MB", args.out / "model", folder_megabytes(args.out / "model"))


if __name__ == "__main__":
    main()
