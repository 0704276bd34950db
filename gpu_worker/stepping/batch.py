"""One forward pass for the rows of many requests, padded to a size whose results do not change.

The same row gives the same bits whatever stands beside it as long as the number of rows is the same; between
two numbers of rows it differs by about 1e-6, since other kernels sum in another order. Hence the buckets:
every pass has one of few sizes. With a single bucket a picture's bits never depend on its neighbours.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gpu_worker.families.base import Conditions
from gpu_worker.stepping.adapters import Adapters
from gpu_worker.stepping.trajectory import AdapterUse, Trajectory
from gpu_worker.stepping.twins import Twins

BUCKETS = (1, 2, 4, 6, 8, 12, 16)
_KEPT_LAYOUTS = 4


@dataclass(frozen=True, slots=True)
class Pass:
    """Rows of one forward pass: each one's picture by index, conditions and LoRAs; `rows` of them are asked
    for, the rest is padding."""

    pictures: torch.Tensor
    conditions: Conditions
    adapters: tuple[tuple[AdapterUse, ...], ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the pictures of a batch find their rows. Stays the same while the same requests share steps.

    `positive` and `negative` (both (P,)) are each picture's rows in all passes together; without guidance
    both are the same. `guidance` is (P, 1, 1, 1).
    """

    passes: tuple[Pass, ...]
    positive: torch.Tensor
    negative: torch.Tensor
    guidance: torch.Tensor

    @property
    def computed_rows(self) -> int:
        return sum(len(one.pictures) for one in self.passes)


class Layouts:
    """The last few layouts, so that a batch that stays together is put together once."""

    def __init__(self, buckets: Sequence[int] = BUCKETS) -> None:
        self._buckets = tuple(buckets)
        self._kept: OrderedDict[tuple[object, ...], Layout] = OrderedDict()

    def of(self, trajectories: Sequence[Trajectory], row_limit: int | None = None) -> Layout:
        """The layout of these, with at most `row_limit` rows per pass."""
        # The trajectories themselves are in the key: an id may be used again by the next object.
        key = (*trajectories, row_limit)
        if key not in self._kept:
            self._kept[key] = self._build(trajectories, row_limit)
            if len(self._kept) > _KEPT_LAYOUTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def forget(self, trajectory: Trajectory) -> None:
        """Drop what holds a finished request's tensors."""
        for key in [key for key in self._kept if trajectory in key]:
            del self._kept[key]

    def clear(self) -> None:
        self._kept.clear()

    def _build(self, trajectories: Sequence[Trajectory], row_limit: int | None) -> Layout:
        rows: list[tuple[int, Conditions, tuple[AdapterUse, ...]]] = []
        positive: list[int] = []
        negative: list[int] = []
        guidance: list[float] = []
        for one in trajectories:
            prompt = one.prompt
            for _ in range(one.pictures):
                picture = len(positive)
                negative.append(len(rows))
                if prompt.negative is not None:
                    rows.append((picture, prompt.negative, one.adapters))
                positive.append(len(rows))
                rows.append((picture, prompt.positive, one.adapters))
                guidance.append(one.guidance if prompt.negative is not None else 1.0)
        device = trajectories[0].latents.device
        return Layout(
            tuple(self._passes(rows, row_limit, device)),
            torch.tensor(positive, device=device),
            torch.tensor(negative, device=device),
            torch.tensor(guidance, device=device).view(-1, 1, 1, 1),
        )

    def _passes(
        self, rows: list[tuple[int, Conditions, tuple[AdapterUse, ...]]], row_limit: int | None, device: Any
    ) -> list[Pass]:
        most = self._buckets[-1] if row_limit is None else max(1, min(row_limit, self._buckets[-1]))
        passes = []
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            asked = len(part)
            part += [part[-1]] * (padded(asked, self._buckets, most) - asked)
            pictures, conditions, adapters = zip(*part, strict=True)
            stacked = {name: torch.cat([row[name] for row in conditions]) for name in conditions[0]}
            passes.append(Pass(torch.tensor(pictures, device=device), stacked, adapters, asked))
        return passes


def padded(rows: int, buckets: Sequence[int], most: int) -> int:
    """Rows that are computed for `rows`: the next bucket that is no more than `most`."""
    return next((size for size in buckets if rows <= size <= most), rows)


def denoise(
    pipe: Any,
    trajectories: Sequence[Trajectory],
    layout: Layout,
    inputs: torch.Tensor,
    timesteps: torch.Tensor,
    adapters: Adapters,
    twins: Twins | None = None,
) -> torch.Tensor:
    """The guided prediction of each picture in fp32, from `inputs` (both (P, C, h, w)) at `timesteps` (P,).

    Classifier-free guidance: arXiv 2207.12598, formula 6, in diffusers' form.
    """
    family = trajectories[0].family
    # Its own `dtype` walks over every module: milliseconds of each step.
    dtype = next(family.denoiser(pipe).parameters()).dtype
    outs = []
    for one in layout.passes:
        latents = inputs[one.pictures].to(dtype)
        own = timesteps[one.pictures]
        chosen = pipe
        if twins is not None and not any(one.adapters):
            chosen = twins.pipe_for(pipe, family, latents, own, one.conditions)
        with adapters.applied(one.adapters):
            out = family.denoise(chosen, latents, own, one.conditions)
        outs.append(out[: one.rows].float())
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    negative = out[layout.negative]
    guided: torch.Tensor = negative + layout.guidance * (out[layout.positive] - negative)
    return guided
