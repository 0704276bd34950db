"""A model on the bench: bare, by its stock pipeline, and in the engine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gpu_worker import devices, samplers
from gpu_worker.bench.watch import Spent, Watch
from gpu_worker.config import EngineConfig
from gpu_worker.devices import Placement
from gpu_worker.engine import Engine
from gpu_worker.families import family_of
from gpu_worker.families.base import Family
from gpu_worker.pipelines import LoadedModel, load
from gpu_worker.request import GenerationRequest, ModelSource
from gpu_worker.speed import on_load
from gpu_worker.stock import call_arguments

Size = tuple[int, int]  # width, height in pixels
RESULT_SECONDS = 600.0


@dataclass(eq=False)
class Subject:
    """One model, loaded twice beside the engine's own copy: `bare` as the engine prepares it, `stock` as
    diffusers leaves it."""

    source: ModelSource
    config: EngineConfig
    placement: Placement
    family: Family
    bare: Any
    stock: LoadedModel

    @classmethod
    def of(cls, source: ModelSource, config: EngineConfig) -> "Subject":
        placement = devices.choose(config)
        bare, stock = (load(source, placement.dtype) for _ in range(2))
        on_load(bare, config, placement)
        for pipe in (bare, stock):
            pipe.to(placement.device)
        family = family_of(bare)
        assert family is not None, "only what the engine steps itself can be compared"
        return cls(source, config, placement, family, bare, LoadedModel.of(source, stock))

    def rows(self, request: GenerationRequest) -> int:
        """Useful denoiser rows: one per step and picture, two under classifier-free guidance."""
        return request.steps * request.num_images * (2 if self.family.is_guided(self.bare, request) else 1)

    @torch.no_grad()
    def bare_rate(self, request: GenerationRequest, rows: int, seconds: float) -> float:
        """Rows per second of nothing but forward passes of `rows` rows, over about `seconds`."""
        prompt = self.family.encode_prompt(self.bare, request, self.placement.device)
        conditions = {name: torch.cat([one] * rows) for name, one in prompt.positive.items()}
        factor = self.bare.vae_scale_factor
        shape = (
            rows,
            self.family.latent_channels(self.bare),
            request.height // factor,
            request.width // factor,
        )
        denoiser = self.family.denoiser(self.bare)
        latents = torch.randn(shape, device=self.placement.device).to(denoiser.dtype)
        timesteps = torch.full((rows,), 500.0, device=self.placement.device)

        def run(calls: int) -> float:
            watch = Watch(self.placement, own_thread=True)
            for _ in range(calls):
                self.family.denoise(self.bare, latents, timesteps, conditions)
            return watch.seconds() / calls

        run(1)  # libraries choose their kernels in the first call
        once = run(1)
        return rows / run(max(2, round(seconds / once)))

    def run_stock(self, queue: Sequence[GenerationRequest]) -> Spent:
        """One request after the other, by diffusers' own call."""
        watch = Watch(self.placement, own_thread=True)
        for request in queue:
            pipe = self.stock.pipe
            pipe.scheduler = samplers.build(request.scheduler, self.stock.own_scheduler)
            pipe(**call_arguments(self.stock, pipe, request, None))
        return watch.spent()

    def run_engine(self, engine: Engine, queue: Sequence[GenerationRequest], name: str) -> Spent:
        """All at once, to the last PNG and thumbnail. `name` sets this run's ids apart."""
        watch = Watch(self.placement)
        requests = [replace(request, id=f"{name}-{request.id}") for request in queue]
        futures = [engine.submit(request, lambda progress: None) for request in requests]
        for future in futures:
            future.result(RESULT_SECONDS)
        return watch.spent()


def size_of(request: GenerationRequest) -> Size:
    return request.width, request.height
