"""The engine's own loop, desk and scheduler around a device that is only a clock.

Encoding, steps and decoding pass simulated seconds instead of taking real ones, so that a run of thousands of
requests takes seconds and comes out the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol, cast

import torch

from gpu_worker.config import EngineConfig
from gpu_worker.desk import Desk
from gpu_worker.families.base import Prompt
from gpu_worker.families.sd import StableDiffusion
from gpu_worker.jobs import Job, Need
from gpu_worker.loop import Loop
from gpu_worker.request import ModelSource
from gpu_worker.scheduling import SchedulingConfig
from gpu_worker.stepping.trajectory import Trajectory
from gpu_worker.tickets import Ticket


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of a device: a step is `launch` + `row` per computed row; `encode` a request's texts, which
    are one pass of the text encoder; `decode` a picture."""

    launch: float = 0.008
    row: float = 0.002
    encode: float = 0.0035
    decode: float = 0.010


@dataclass(frozen=True, slots=True)
class Step:
    """One step: when it began and how long it took, in simulated seconds; ids of its requests; its rows."""

    begin: float
    seconds: float
    ids: tuple[str, ...]
    rows: int


class Traffic(Protocol):
    """Where the requests come from."""

    def arrive(self, now: float) -> Sequence[Ticket]:
        """Those that have come since the last call."""

    def finished(self, name: str) -> None:
        """This one's pictures are done."""

    def over(self, step: Step) -> bool:
        """Whether this step was the last of interest."""


class StableDiffusionPipeline:
    """A pipeline as far as the loop looks at it: by its name a family claims it."""

    unet = SimpleNamespace(config=SimpleNamespace(in_channels=4, time_cond_proj_dim=None))
    vae = SimpleNamespace(config=SimpleNamespace(latent_channels=4))


class Clockwork:
    """Is the loop's placement, supplies, steps and encoders at once. Traffic is asked for arrivals after
    everything that takes time; time passes only while the device works."""

    device = torch.device("cpu")

    def __init__(self, traffic: Traffic, costs: Costs, config: SchedulingConfig) -> None:
        self.now = 0.0
        self.made: list[Step] = []
        self._traffic, self._costs, self._config = traffic, costs, config
        self._stopped = False
        self.desk = Desk(config, lambda: self.now)

    def run(self) -> list[Step]:
        """Every step until it is over."""
        part: Any = self
        config = EngineConfig(device="cpu", scheduling=self._config)
        self._pass(0.0)
        Loop(config, part, self.desk, part, part, part).serve()
        return self.made

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        if not self._stopped:
            for ticket in self._traffic.arrive(self.now):
                self.desk.add(ticket)

    # As the placement.

    def mark(self) -> float:
        return self.now

    def seconds(self, start: float, end: float) -> float:
        return end - start

    def reset_peak_memory(self) -> None: ...

    def peak_memory(self) -> None:
        return None

    # As the supplies: everything is there.

    can_offload = False

    def failures(self) -> tuple[list[Any], list[Any]]:
        return [], []

    def follow(self, needs: Sequence[Need], ahead: object, kept: object) -> set[Need]:
        return set(needs)

    def lease(self, source: ModelSource) -> Any:
        return SimpleNamespace(pipe=_PIPE)

    def loras(self, need: Need) -> list[Any]:
        return []

    def close(self) -> None: ...

    # As the steps.

    def rows_per_pass(self, limit: int | None) -> int:
        most = self._config.max_rows
        return most if limit is None else min(limit, most)

    def prepare(self, job: Job, lease: Any) -> int:
        self._pass(self._costs.encode)
        request = job.request
        job.work = Trajectory(
            family=_FAMILY,
            latents=torch.zeros(request.num_images, 1, 1, 1),
            prompt=Prompt({}, {} if request.guidance > 1 else None),
            guidance=request.guidance,
            scheduler=None,
            timesteps=torch.zeros(request.steps),
            generators=[],
        )
        return request.steps

    def step(self, lease: Any, jobs: Sequence[Job], row_limit: int) -> int:
        rows = self._config.padded(sum(job.entry.rows for job in jobs))
        seconds = self._costs.launch + self._costs.row * rows
        self.made.append(Step(self.now, seconds, tuple(job.request.id for job in jobs), rows))
        self._pass(seconds)
        for job in jobs:
            cast(Trajectory, job.work).done += 1
        if not self._stopped and self._traffic.over(self.made[-1]):
            self._stopped = True
            self.desk.stop(0)
        return rows

    def decode(self, job: Job, lease: Any, measures: object) -> None:
        self._pass(self._costs.decode)
        job.pixels.append(None)

    def forget(self, job: Job) -> None:
        job.close()

    # As the encoders.

    def deliver(self, ticket: Ticket, run: object) -> None:
        self._traffic.finished(ticket.request.id)


_PIPE = StableDiffusionPipeline()
_FAMILY = StableDiffusion()
