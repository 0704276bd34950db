"""Samplers as tables of numbers, so that many requests advance in a few tensor operations.

Every sampler here computes, with the denoiser's output F at the latent x,

    x0 = P x + Q F        the picture expected at the end
    c  = u + K x0         the latent, corrected by what was just learned about it
    x  = A c + B x0 + C h + N noise
    u  = D c + E x0 + G h,  then  h = x0

with coefficients that depend on the step alone. They are worked out in double precision when a request
begins. Most samplers correct nothing: K is 0, and u and x are the same. DDIM: arXiv 2010.02502, formula 12;
Euler and Euler ancestral: 2206.00364, algorithm 2 without churn; DPM++ 2M: 2211.01095, algorithm 2; LCM:
2310.04378, algorithm 1; UniPC: 2302.04867, algorithms 5 to 8.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

COLUMNS = 11

_Row = Sequence[float]
_Rows = Sequence[_Row]


@dataclass(frozen=True, slots=True)
class Plan:
    """One row of `table` per step to be made, (steps, COLUMNS) in fp32 on the CPU: the factor of the
    denoiser's input, then P, Q, A, B, C, N, K, D, E, G."""

    table: torch.Tensor
    noisy: bool
    corrects: bool


def plan(scheduler: Any, begin: int) -> Plan | None:
    """The scheduler's steps from index `begin` of its timesteps on; None where they are not of this form."""
    rows_of = _ROWS.get(type(scheduler).__name__)
    config = scheduler.config
    if rows_of is None or any(config.get(name) for name in _NOT_LINEAR):
        return None
    rows = rows_of(scheduler, begin)
    if rows is None:
        return None
    whole = [row if len(row) == COLUMNS else (*row, 0.0, *row[3:6]) for row in rows]
    table = torch.tensor(whole, dtype=torch.float64).float().reshape(-1, COLUMNS)
    return Plan(table, noisy=bool(table[:, 6].any()), corrects=bool(table[:, 7].any()))


_NOT_LINEAR = ("clip_sample", "thresholding", "stochastic_sampling")


def _expected(prediction: str, alpha: float, sigma: float) -> tuple[float, float]:
    """P and Q for x = alpha x0 + sigma noise."""
    if prediction == "epsilon":
        return 1 / alpha, -sigma / alpha
    if prediction == "v_prediction":
        return alpha, -sigma
    return 0.0, 1.0


def _known(scheduler: Any) -> bool:
    return scheduler.config.get("prediction_type") in ("epsilon", "v_prediction", "sample")


def _alpha_sigma(cumulative: torch.Tensor) -> tuple[float, float]:
    alpha_squared = float(cumulative)
    return math.sqrt(alpha_squared), math.sqrt(1 - alpha_squared)


def _ddim(scheduler: Any, begin: int) -> _Rows | None:
    if not _known(scheduler):
        return None
    stride = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    rows = []
    for t in scheduler.timesteps[begin:].tolist():
        alpha, sigma = _alpha_sigma(scheduler.alphas_cumprod[t])
        before = scheduler.alphas_cumprod[t - stride] if t >= stride else scheduler.final_alpha_cumprod
        next_alpha, next_sigma = _alpha_sigma(before)
        p, q = _expected(scheduler.config.prediction_type, alpha, sigma)
        slope = next_sigma / sigma
        rows.append((1.0, p, q, slope, next_alpha - slope * alpha, 0.0, 0.0))
    return rows


def _euler(scheduler: Any, begin: int, ancestral: bool = False) -> _Rows | None:
    """Here x = x0 + sigma noise, and the denoiser sees x / sqrt(sigma² + 1)."""
    if not _known(scheduler):
        return None
    rows = []
    sigmas = scheduler.sigmas.double().tolist()[begin:]
    for sigma, after in pairwise(sigmas):
        norm = math.sqrt(sigma**2 + 1)
        p, q = {
            "epsilon": (1.0, -sigma),
            "v_prediction": (1 / norm**2, -sigma / norm),
            "sample": (0.0, 1.0),
        }[scheduler.config.prediction_type]
        up = math.sqrt(after**2 * (sigma**2 - after**2)) / sigma if ancestral else 0.0
        slope = math.sqrt(max(after**2 - up**2, 0.0)) / sigma
        rows.append((1 / norm, p, q, slope, 1 - slope, 0.0, up))
    return rows


def _euler_ancestral(scheduler: Any, begin: int) -> _Rows | None:
    return _euler(scheduler, begin, ancestral=True)


def _flow_euler(scheduler: Any, begin: int) -> _Rows | None:
    """Here x = (1 - sigma) x0 + sigma noise, and the denoiser predicts noise - x0."""
    rows = []
    sigmas = scheduler.sigmas.double().tolist()[begin:]
    for sigma, after in pairwise(sigmas):
        slope = after / sigma
        rows.append((1.0, 1.0, -sigma, slope, 1 - slope, 0.0, 0.0))
    return rows


def _dpmpp(scheduler: Any, begin: int) -> _Rows | None:
    config = scheduler.config
    solver = (config.algorithm_type, config.solver_type, config.use_flow_sigmas)
    if solver != ("dpmsolver++", "midpoint", False) or config.solver_order > 2 or not _known(scheduler):
        return None
    rows = []
    sigmas = scheduler.sigmas.double().tolist()  # in units of alpha
    last = len(scheduler.timesteps) - 1
    few = config.lower_order_final and last + 1 < 15
    first_order_end = few or config.euler_at_final or config.final_sigmas_type == "zero"
    for i in range(begin, last + 1):
        alpha, next_alpha = (1 / math.sqrt(s**2 + 1) for s in sigmas[i : i + 2])
        ratio = sigmas[i + 1] / sigmas[i]  # e^-h, with h the step in log(alpha / sigma)
        p, q = _expected(config.prediction_type, alpha, sigmas[i] * alpha)
        gain = next_alpha * (1 - ratio)
        look_back = 0.0
        if config.solver_order == 2 and i > begin and not (i == last and first_order_end):
            # D1 = (x0 - h) / r, r the last step over this one, both in log(alpha / sigma)
            look_back = 0.5 * gain * math.log(ratio) / math.log(sigmas[i] / sigmas[i - 1])
        slope = ratio * next_alpha / alpha
        rows.append((1.0, p, q, slope, gain + look_back, -look_back, 0.0))
    return rows


def _lcm(scheduler: Any, begin: int) -> _Rows | None:
    if not _known(scheduler):
        return None
    rows: list[_Row] = []
    timesteps = scheduler.timesteps.tolist()
    for i in range(begin, len(timesteps)):
        alpha, sigma = _alpha_sigma(scheduler.alphas_cumprod[timesteps[i]])
        p, q = _expected(scheduler.config.prediction_type, alpha, sigma)
        skip, out = map(float, scheduler.get_scalings_for_boundary_condition_discrete(timesteps[i]))
        if i == scheduler.num_inference_steps - 1:
            rows.append((1.0, p, q, skip, out, 0.0, 0.0))
        else:
            next_alpha, next_sigma = _alpha_sigma(scheduler.alphas_cumprod[timesteps[i + 1]])
            rows.append((1.0, p, q, next_alpha * skip, next_alpha * out, 0.0, next_sigma))
    return rows


def _unipc(scheduler: Any, begin: int) -> _Rows | None:
    """The corrector of a step needs nothing new but x0: the rest of it, u, is known a step before."""
    config = scheduler.config
    known = (config.predict_x0, config.solver_type, config.use_flow_sigmas, scheduler.solver_p)
    if known != (True, "bh2", False, None) or config.solver_order > 2 or not _known(scheduler):
        return None
    rows: list[_Row] = []
    sigmas = scheduler.sigmas.double().tolist()  # in units of alpha
    steps = len(scheduler.timesteps)
    correction = 0.0
    for i in range(begin, steps):
        left = steps - i if config.lower_order_final else config.solver_order
        order = min(config.solver_order, left, i - begin + 1)
        if order == 2 and not sigmas[i + 1]:
            return None  # the step is infinite, and only the first order has a limit there
        alpha, next_alpha = (1 / math.sqrt(s**2 + 1) for s in sigmas[i : i + 2])
        ratio = sigmas[i + 1] / sigmas[i]  # e^-h, with h the step in log(alpha / sigma)
        slope, gain = ratio * next_alpha / alpha, next_alpha * (1 - ratio)
        back = math.log(ratio) / math.log(sigmas[i] / sigmas[i - 1]) if order == 2 else 0.0  # -1 / r
        p, q = _expected(config.prediction_type, alpha, sigmas[i] * alpha)
        row = (1.0, p, q, slope, gain * (1 + back / 2), -gain * back / 2, 0.0, correction)
        if i + 1 < steps and i not in scheduler.disable_corrector:
            older, newer = _unic(-math.log(ratio), back)
            correction = gain * newer
            rows.append((*row, slope, gain * (1 + older * back - newer), -gain * older * back))
        else:
            correction = 0.0
            rows.append((*row, *row[3:6]))
    return rows


def _unic(h: float, back: float) -> tuple[float, float]:
    """Weights of the last and of the new difference of x0 in UniC-1 (`back` is 0) or UniC-2, with B(h) =
    e^-h - 1; `back` is this step over the last one."""
    if not back:
        return 0.0, 0.5
    b_1 = (math.expm1(-h) / -h - 1) / math.expm1(-h)
    b_2 = 2 * ((math.expm1(-h) / -h - 1) / -h - 0.5) / math.expm1(-h)
    r = -1 / back
    older = (b_1 - b_2) / (1 - r)
    return older, b_1 - older


_ROWS: dict[str, Callable[[Any, int], _Rows | None]] = {
    "DDIMScheduler": _ddim,
    "EulerDiscreteScheduler": _euler,
    "EulerAncestralDiscreteScheduler": _euler_ancestral,
    "FlowMatchEulerDiscreteScheduler": _flow_euler,
    "DPMSolverMultistepScheduler": _dpmpp,
    "LCMScheduler": _lcm,
    "UniPCMultistepScheduler": _unipc,
}
