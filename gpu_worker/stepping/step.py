"""One denoising step for a batch of trajectories: scale, predict, advance."""

import inspect
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

import torch

from gpu_worker.outcomes import caught
from gpu_worker.stepping.adapters import Adapters
from gpu_worker.stepping.batch import Layouts, denoise
from gpu_worker.stepping.plans import COLUMNS
from gpu_worker.stepping.trajectory import Trajectory
from gpu_worker.stepping.twins import Twins


@torch.no_grad()
def step(
    pipe: Any,
    trajectories: Sequence[Trajectory],
    layouts: Layouts,
    adapters: Adapters,
    row_limit: int | None = None,
    twins: Twins | None = None,
) -> int:
    """Take every trajectory one step further; returns the rows computed, padding included.

    Their `shape_key` must be equal and none may be finished. Nothing has changed when the denoiser raises;
    what a request's own scheduler raises is that trajectory's `failure`.
    """
    layout = layouts.of(trajectories, row_limit)
    table = _coefficients(trajectories).to(trajectories[0].latents.device, non_blocking=True)
    latents = torch.cat([_scaled(one) for one in trajectories])
    inputs = latents * column(table, 1)
    predictions = denoise(pipe, trajectories, layout, inputs, table[:, 0], adapters, twins)
    _advance(trajectories, predictions, table)
    return layout.computed_rows


def column(table: torch.Tensor, index: int) -> torch.Tensor:
    """A column of a (P, n) table, in the shape that multiplies (P, C, h, w)."""
    return table[:, index].view(-1, 1, 1, 1)


def _coefficients(trajectories: Sequence[Trajectory]) -> torch.Tensor:
    """Per picture its timestep and its sampler's numbers, (P, 1 + COLUMNS): all that changes, in one go."""
    rows = torch.empty(sum(one.pictures for one in trajectories), 1 + COLUMNS)
    start = 0
    for one in trajectories:
        part = rows[start : start + one.pictures]
        part[:, 0] = one.timesteps[one.done]
        part[:, 1:] = one.plan.table[one.done] if one.plan is not None else _NO_PLAN
        start += one.pictures
    return rows.pin_memory() if trajectories[0].latents.is_cuda else rows


# A sampler without a plan scales its own input; the other columns are not read.
_NO_PLAN = torch.tensor([1.0, *[0.0] * (COLUMNS - 1)])


def _scaled(one: Trajectory) -> torch.Tensor:
    """Latents as the denoiser wants them, apart from what a plan's table does to them."""
    if one.plan is not None or not hasattr(one.scheduler, "scale_model_input"):
        return one.latents
    scaled: torch.Tensor = one.scheduler.scale_model_input(one.latents, one.timesteps[one.done])
    return scaled


def _advance(trajectories: Sequence[Trajectory], predictions: torch.Tensor, table: torch.Tensor) -> None:
    planned, parts, start = [], [], 0
    for one in trajectories:
        part = slice(start, start + one.pictures)
        start = part.stop
        if one.plan is not None:
            planned.append(one)
            parts.append(part)
        else:
            # By now others may have moved on: what one scheduler raises must not stop the step halfway.
            outcome = caught(lambda one=one, part=part: _advance_alone(one, predictions[part]))  # type: ignore[misc]
            one.failure = outcome if isinstance(outcome, Exception) else None
    if len(planned) == len(trajectories):
        advance_together(planned, predictions, table)
    elif planned:
        own = torch.cat([predictions[part] for part in parts])
        advance_together(planned, own, torch.cat([table[part] for part in parts]))
    for one in trajectories:
        one.done += 1


def advance_together(
    trajectories: Sequence[Trajectory], predictions: torch.Tensor, table: torch.Tensor
) -> None:
    """The formulas of `plans` for all pictures at once; sums and products only, so that no row rounds
    differently for its place in the batch."""
    latents = torch.cat([one.latents for one in trajectories])
    history = torch.cat([one.history for one in trajectories])
    correcting = any(_corrects(one) for one in trajectories)
    expected = column(table, 2) * latents + column(table, 3) * predictions
    corrected = latents
    if correcting:
        corrected = torch.cat([one.base for one in trajectories]) + column(table, 8) * expected
    latents = column(table, 4) * corrected + column(table, 5) * expected + column(table, 6) * history
    if any(_is_noisy(one) for one in trajectories):
        noise = torch.cat(
            [one.noise() if _is_noisy(one) else torch.zeros_like(one.latents) for one in trajectories]
        )
        latents = latents + column(table, 7) * noise
    base = latents
    if correcting:
        base = column(table, 9) * corrected + column(table, 10) * expected + column(table, 11) * history
    start = 0
    for one in trajectories:
        own = slice(start, start + one.pictures)
        one.latents, one.history, start = latents[own], expected[own], own.stop
        one.base = base[own] if _corrects(one) else one.latents


def _corrects(one: Trajectory) -> bool:
    return one.plan is not None and one.plan.corrects


def _is_noisy(one: Trajectory) -> bool:
    return one.plan is not None and one.plan.noisy and bool(one.plan.table[one.done, 6])


def _advance_alone(one: Trajectory, prediction: torch.Tensor) -> None:
    """By the request's own scheduler; then put back what inpainting keeps, as the stock pipelines do."""
    timestep = one.timesteps[one.done]
    draws = _takes_generator(type(one.scheduler).step)
    options = {"generator": one.generators} if draws else {}
    latents = one.scheduler.step(prediction, timestep, one.latents, return_dict=False, **options)[0]
    if one.kept is not None:
        kept = one.kept.clean
        if one.done + 1 < one.steps:
            following = one.timesteps[one.done + 1 : one.done + 2]
            kept = one.family.add_noise(one.scheduler, kept, one.kept.noise, following)
        latents = (1 - one.kept.mask) * kept + one.kept.mask * latents
    one.latents = latents


@lru_cache(maxsize=64)
def _takes_generator(step_method: Hashable) -> bool:
    return callable(step_method) and "generator" in inspect.signature(step_method).parameters
