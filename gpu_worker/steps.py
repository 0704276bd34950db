"""What the GPU thread does to requests: prepare, step, decode. Raises whatever goes wrong."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from gpu_worker.families import family_of
from gpu_worker.jobs import Job
from gpu_worker.memory import Lease, LoraLease, Measures, decoding
from gpu_worker.pipelines import BUILDING
from gpu_worker.request import LoraSource, ModelSource, Progress
from gpu_worker.scheduling import SchedulingConfig
from gpu_worker.stepping.adapters import Adapters
from gpu_worker.stepping.batch import Layouts
from gpu_worker.stepping.prepare import prepare
from gpu_worker.stepping.step import step
from gpu_worker.stepping.trajectory import Trajectory
from gpu_worker.stepping.twins import Twins
from gpu_worker.stock import StockRun


class Steps:
    """Keeps what outlasts a step: layouts of batches, LoRAs put into models."""

    def __init__(self, scheduling: SchedulingConfig, threads: int | None, device: torch.device) -> None:
        self._buckets = scheduling.buckets or tuple(range(1, scheduling.max_rows + 1))
        self._layouts = Layouts(self._buckets)
        self._threads = threads
        self._device = device
        self._adapters: dict[Any, Adapters] = {}  # by pipeline
        self._twins: Twins | None = None
        self._hold: Callable[[ModelSource], Callable[[], None] | None] | None = None

    def compile(self, twins: Twins, hold: Callable[[ModelSource], Callable[[], None] | None]) -> None:
        """Compile denoisers from now on; `hold` keeps a model where it is until what it returns is called."""
        self._twins, self._hold = twins, hold

    def rows_per_pass(self, limit: int | None) -> int:
        """Rows of one forward pass at most, when memory allows `limit`."""
        return self._buckets[-1] if limit is None else min(limit, self._buckets[-1])

    def put_in(self, lease: Lease, loras: Sequence[LoraLease]) -> bool:
        """Put LoRAs into a model; False when that must wait for a model that is just being built.

        Raises `BadRequest` for one that does not fit.
        """
        adapters = self._adapters_of(lease)
        missing = [lora for lora in loras if not adapters.has(plain(lora))]
        if not missing:
            return True
        if not BUILDING.acquire(blocking=False):
            return False
        try:
            for lora in missing:
                adapters.put_in(plain(lora), lora.weights)
        finally:
            BUILDING.release()
        return True

    def trim(self, lease: Lease, used: Collection[LoraSource]) -> None:
        """Take out LoRAs that nobody needs any more, apart from the latest few."""
        self._adapters_of(lease).trim(used)

    def prepare(self, job: Job, lease: Lease) -> int:
        """Everything before the first step; returns how many there are, or turns of a stock pipeline."""
        family = family_of(lease.pipe)
        if family is None:
            job.work = StockRun(lease.model, job.request, self._threads)
            return job.work.turns_left
        job.work = prepare(family, lease.model, job.request, self._adapters_of(lease), self._device)
        return job.work.steps

    def step(self, lease: Lease, jobs: Sequence[Job], row_limit: int) -> int:
        """Take each of a group one step further; the rows computed, padding included."""
        if isinstance(jobs[0].work, StockRun):
            (job,) = jobs
            images = job.work.advance() if isinstance(job.work, StockRun) else None
            job.pixels.extend(images or ())
            return job.entry.rows
        adapters = self._adapters_of(lease)
        twins = self._twins_for(lease, adapters)
        trajectories = [job.work for job in jobs if isinstance(job.work, Trajectory)]
        return step(lease.pipe, trajectories, self._layouts, adapters, row_limit, twins)

    @torch.no_grad()
    def decode(self, job: Job, lease: Lease, measures: Measures) -> None:
        """Decode the next picture: one at a time needs the least memory and makes nobody wait for four."""
        assert isinstance(job.work, Trajectory)
        index = len(job.pixels)
        request = job.request
        with decoding(lease.pipe, measures, request.width, request.height):
            pixels = job.work.family.decode(lease.pipe, job.work.latents[index : index + 1])[0]
        # Bytes are a quarter of what the encoders would have to fetch from the device otherwise.
        job.pixels.append((pixels.float() / 2 + 0.5).clamp(0, 1).mul(255).round().byte())

    def close(self) -> None:
        if self._twins is not None:
            self._twins.close()

    def let_go(self, lease: Lease) -> None:
        """Leave a model as it was loaded, before it may leave the device."""
        if self._twins is not None:
            self._twins.drop(lease.pipe)
        adapters = self._adapters.pop(lease.pipe, None)
        if adapters is not None:
            adapters.clear()

    def _adapters_of(self, lease: Lease) -> Adapters:
        return self._adapters.setdefault(lease.pipe, Adapters(lease.pipe, self._device))

    def _twins_for(self, lease: Lease, adapters: Adapters) -> Twins | None:
        """A twin is made of layers as they were loaded; one made before LoRAs came in stays good."""
        twins, hold, family = self._twins, self._hold, family_of(lease.pipe)
        if twins is None or hold is None or family is None or lease.pipe in twins:
            return twins
        if adapters.is_empty and not _is_offloaded(family.denoiser(lease.pipe)):
            twins.add(lease.pipe, family, lambda: hold(lease.source))
        return twins

    def forget(self, job: Job) -> None:
        """Let go of a request that has ended."""
        if isinstance(job.work, Trajectory):
            self._layouts.forget(job.work)
        job.close()


def _is_offloaded(denoiser: torch.nn.Module) -> bool:
    """Whether diffusers brings its weights in layer by layer."""
    return any(hasattr(module, "_diffusers_hook") for module in denoiser.modules())


def groups_of(jobs: Sequence[Job]) -> list[list[Job]]:
    """Those that one forward pass can take together: nearly always all."""
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        key = job.work.shape_key() if isinstance(job.work, Trajectory) else job.entry.id
        groups.setdefault(key, []).append(job)
    return list(groups.values())


def failure_of(job: Job) -> Exception | None:
    return job.work.failure if isinstance(job.work, Trajectory) else None


def plain(lora: LoraLease) -> LoraSource:
    assert isinstance(lora.source, LoraSource)
    return lora.source


def progress_of(job: Job) -> Progress:
    if isinstance(job.work, StockRun):
        return job.work.progress
    assert isinstance(job.work, Trajectory)
    return Progress(job.work.done, job.work.steps)
