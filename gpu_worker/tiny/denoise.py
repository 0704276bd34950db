"""Training of the denoiser and its text encoder on encoded scenes."""

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from gpu_worker.tiny.data import EncodedScenes, token_ids
from gpu_worker.tiny.parts import Unet
from gpu_worker.tiny.progress import progress
from gpu_worker.tiny.unet import TRAIN_STEPS, build_text_encoder, build_unet, noise_levels


@dataclass(frozen=True)
class Settings:
    """How the denoiser is trained.

    `flat` is the share of steps at full rate before the cosine descends. Scenes are drawn as they come until
    step `pairs_from`, by when single shapes have formed; then `pair_share` more of them are pairs.
    """

    steps: int = 5_800
    batch: int = 32
    lr: float = 1.5e-3
    warmup: int = 200
    flat: float = 0.4
    caption_dropout: float = 0.1
    ema: float = 0.997
    pairs_from: int = 2_300
    pair_share: float = 0.4
    seed: int = 0
    checkpoint_seconds: float = 120.0


class PlainAttention:
    """Attention as two matrix products. On CPU the fused kernel's backward pass takes half of a step."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        """Same contract as the stock processors, for (B, T, C) inputs without masks."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            x.reshape(*x.shape[:2], attn.heads, -1).transpose(1, 2).flatten(0, 1)
            for x in (attn.to_q(hidden_states) * attn.scale, attn.to_k(context), attn.to_v(context))
        )
        scores = torch.bmm(query, key.transpose(1, 2))
        with torch.autocast("cpu", enabled=False):  # autocast would go to float32 and back
            weights = scores.softmax(dim=-1)
        mixed = (
            torch.bmm(weights, value)
            .view(-1, attn.heads, query.shape[1], value.shape[2])
            .transpose(1, 2)
            .flatten(2)
        )
        output: Tensor = attn.to_out[0](mixed)
        return output


class Denoiser(nn.Module):
    """The denoiser and its text encoder as one thing to train."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet: Unet = build_unet()
        self.text: CLIPTextModel = build_text_encoder(
            len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id
        )
        self.unet.set_attn_processor(PlainAttention())
        self.text.set_attn_implementation("eager")

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predicted velocity: noisy (B, 4, 16, 16), timesteps (B,), tokens (B, T) -> (B, 4, 16, 16)."""
        hidden = self.text(tokens).last_hidden_state
        output: Tensor = self.unet(noisy, timesteps, hidden).sample
        return output


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up, a flat part, then a cosine to a tenth, as a factor of the full rate."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = max(0.0, (step / settings.steps - settings.flat) / (1.0 - settings.flat))
    return 0.1 + 0.9 * 0.5 * (1.0 + float(torch.cos(torch.tensor(done * torch.pi))))


class Trainer:
    """Trains a `Denoiser`; every step draws from its own seed, so a resumed run is the same run."""

    def __init__(
        self,
        data: EncodedScenes,
        tokenizer: CLIPTokenizer,
        settings: Settings,
        checkpoint: Path,
        share: slice = slice(None),
    ) -> None:
        self.settings, self.checkpoint, self.share = settings, checkpoint, share
        self.latents = torch.from_numpy(data.latents)
        self.tokens = torch.from_numpy(data.tokens)
        self.pairs = torch.from_numpy(np.flatnonzero(data.pairs))
        self.empty = token_ids(tokenizer, [""])[0]
        self.signal, self.noise = noise_levels()
        torch.manual_seed(settings.seed)
        self.model = Denoiser(tokenizer).train()
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.step = 0
        self.first = share.start in (None, 0)  # the process that keeps the checkpoint
        if checkpoint.exists():
            self._load()

    def _load(self) -> None:
        state = torch.load(self.checkpoint)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        part = self.checkpoint.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
            },
            part,
        )
        part.replace(self.checkpoint)

    def _batch(self) -> tuple[Tensor, ...]:
        """This process's share of the step's latents, noise, tokens and timesteps.

        Timesteps are spread evenly over the whole batch: less noise in the gradient.
        """
        size = self.settings.batch
        rng = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        rows = torch.randint(len(self.latents), (size,), generator=rng)
        if self.step >= self.settings.pairs_from:
            pairs = self.pairs[torch.randint(len(self.pairs), (size,), generator=rng)]
            rows = torch.where(torch.rand(size, generator=rng) < self.settings.pair_share, pairs, rows)
        which = torch.randint(self.tokens.shape[1], (size,), generator=rng)
        tokens = self.tokens[rows, which].long()
        tokens[torch.rand(size, generator=rng) < self.settings.caption_dropout] = self.empty
        strata = (torch.arange(size) + torch.rand(size, generator=rng)) / size
        timesteps = (
            (strata[torch.randperm(size, generator=rng)] * TRAIN_STEPS).long().clamp_max(TRAIN_STEPS - 1)
        )
        noise = torch.randn(size, *self.latents.shape[1:], generator=rng)
        parts = (self.latents[rows].float(), noise, tokens, timesteps)
        return tuple(part[self.share] for part in parts)

    def loss(self) -> Tensor:
        """Mean squared error of the velocity on this step's batch (v-prediction: Salimans & Ho 2022)."""
        clean, noise, tokens, timesteps = self._batch()
        signal, spread = (level[timesteps][:, None, None, None] for level in (self.signal, self.noise))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = self.model(signal * clean + spread * noise, timesteps, tokens)
        return functional.mse_loss(output.float(), signal * noise - spread * clean)

    def _share_gradients(self) -> None:
        """Average the gradients over the processes, in one message."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _update_average(self) -> None:
        """Exponential moving average of the weights; short memory at first, when they move fast."""
        keep = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            averages: list[Tensor] = list(self.average.parameters())
            torch._foreach_lerp_(averages, list(self.model.parameters()), 1.0 - keep)

    def run(self, progress: Callable[[int, float], None]) -> None:
        """Train to the end, leaving a checkpoint every few minutes."""
        saved = time.monotonic()
        while self.step < self.settings.steps:
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.lr * learning_rate(self.step, self.settings)
            loss = self.loss()
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            if distributed.is_initialized():
                self._share_gradients()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
            self.optimizer.step()
            self._update_average()
            progress(self.step, loss.item())
            self.step += 1
            if self.first and time.monotonic() - saved > self.settings.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
        if self.first:
            self.save()

    def averaged(self) -> tuple[Unet, CLIPTextModel]:
        """The averaged weights: what is shipped."""
        return self.average.unet, self.average.text


def _work(rank: int, processes: int, meeting: str, make: Callable[[slice], Trainer], steps: int) -> None:
    """One of the training processes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)
    trainer = make(slice(rank, None, processes))
    trainer.run(progress("denoiser", steps, every=100) if rank == 0 else lambda step, loss: None)
    distributed.destroy_process_group()


def train_together(make: Callable[[slice], Trainer], steps: int, processes: int = 2) -> None:
    """Train with one thread in each process; `make` builds the trainer of a share of the batch.

    Processes meet once a step, threads some thousand times: on a shared machine the threads mostly wait.
    """
    with TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        spawn(_work, (processes, meeting, make, steps), nprocs=processes)  # type: ignore[no-untyped-call]
