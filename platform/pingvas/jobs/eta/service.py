"""How long a job runs on a slot, from what recent ones took. Pure functions."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, pstdev
from typing import Any

from pingvas.jobs.quote import quote

FEW = 5  # samples; with fewer the next coarser figure is taken
LATELY = 40  # of the samples say how fast things go now
PIXELS_PER_MEGAPIXEL = 1_000_000
UNKNOWN_VARIATION = 0.5  # standard deviation over mean, before anything was measured


@dataclass(frozen=True, slots=True)
class Work:
    """What decides how long a job runs. Width and height in pixels."""

    model: str
    width: int
    height: int
    steps: int
    num_images: int = 1

    @classmethod
    def of(cls, model: str, parameters: Mapping[str, Any]) -> "Work":
        """Return the work of a job with these parameters."""
        sides = parameters["width"], parameters["height"]
        return cls(model, *sides, parameters["steps"], parameters["num_images"])

    @property
    def size(self) -> tuple[str, int]:
        """Jobs of one model and as many pixels take as long a step."""
        return self.model, self.width * self.height

    @property
    def megapixel_steps(self) -> float:
        """Megapixels denoised, over all steps and pictures."""
        return self.width * self.height / PIXELS_PER_MEGAPIXEL * self.steps * self.num_images


@dataclass(frozen=True, slots=True)
class Sample:
    """A job that has completed: the seconds between its last start and its end, and those of the device."""

    work: Work
    seconds: float
    gpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Seconds per megapixel-step: by model and size, by model, and else the quote's formula.

    `pace` is what the newest samples took by what these figures say of them.
    """

    by_size: Mapping[tuple[str, int], float] = field(default_factory=dict)
    by_model: Mapping[str, float] = field(default_factory=dict)
    price_factors: Mapping[str, float] = field(default_factory=dict)
    mean: float | None = None
    variation: float = UNKNOWN_VARIATION
    pace: float = 1.0

    def seconds(self, work: Work) -> float:
        """Return how long a job of this work is likely to run."""
        rate = self.rate(work.model, work.width, work.height)
        return self._by_formula(work) if rate is None else rate * work.megapixel_steps * self.pace

    def rate(self, model: str, width: int, height: int) -> float | None:
        """Return the seconds per megapixel-step, None before enough was measured."""
        return self.by_size.get((model, width * height)) or self.by_model.get(model)

    def _by_formula(self, work: Work) -> float:
        return quote(
            steps=work.steps,
            width=work.width,
            height=work.height,
            num_images=work.num_images,
            price_factor=self.price_factors.get(work.model, 1.0),
        ).gpu_seconds


def crowded(samples: Sequence[Sample], slots: int) -> list[Sample]:
    """Return what jobs take of a slot where all of a device's slots are in use, which is while jobs wait.

    The slots share the device, so that is the job's own seconds of the device times the slots; nothing else
    that was seen tells how fast a queue moves. A job that ran alone was faster, one that higher tiers stepped
    over was slower. At least it is those seconds and what a job needs beside the device (the least tenth of
    what jobs were seen to need).
    """
    beside = sorted(max(0.0, sample.seconds - sample.gpu_seconds) for sample in samples)
    least = beside[len(beside) // 10] if beside else 0.0
    return [
        replace(sample, seconds=max(slots * sample.gpu_seconds, sample.gpu_seconds + least))
        for sample in samples
    ]


def measure(samples: Sequence[Sample], price_factors: Mapping[str, float]) -> ServiceTimes:
    """Return what the samples, newest first, say; `price_factors` by model are for those without samples."""
    by_size: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    by_model: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_size[sample.work.size].append(sample)
        by_model[sample.work.model].append(sample)
    times = ServiceTimes(
        {size: _rate(group) for size, group in by_size.items() if len(group) >= FEW},
        {model: _rate(group) for model, group in by_model.items() if len(group) >= FEW},
        price_factors,
    )
    lately = [sample.seconds for sample in samples[:LATELY]]
    if len(lately) < FEW or not any(lately):
        return times
    mean = fmean(lately)
    pace = sum(lately) / sum(times.seconds(sample.work) for sample in samples[:LATELY])
    return replace(times, mean=mean, variation=pstdev(lately) / mean, pace=pace)


def _rate(samples: list[Sample]) -> float:
    return sum(sample.seconds for sample in samples) / sum(sample.work.megapixel_steps for sample in samples)
