"""Accepting jobs: check them against the catalogue and the plan, price them, hold their price, insert them.

Hold, rows and limits are one call of a database function: a request is one round trip after its sign-in.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from uuid import UUID

from pingvas import db, ids
from pingvas.billing import plans
from pingvas.catalog import entries
from pingvas.catalog.families import FAMILIES
from pingvas.catalog.models import CatalogEntry
from pingvas.errors import Invalid, TierRequired
from pingvas.jobs import accepting, dispatch, eta, refusals, tiers
from pingvas.jobs.dispatch import Bell
from pingvas.jobs.eta import Work
from pingvas.jobs.quote import Quote, quote

MAX_SEED = 2**63 - 1
FEATURE_BATCH = "batch"


@dataclass(frozen=True)
class Order:
    """What a client asked for; None where the catalogue decides. Sides in pixels."""

    prompt: str
    negative_prompt: str = ""
    model: str = "tiny"
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    seed: int | None = None
    scheduler: str | None = None
    num_images: int = 1
    priority: str = "interactive"


@dataclass(frozen=True)
class Parameters:
    """An order with every blank filled in: what the worker will run and the picture will carry."""

    negative_prompt: str
    width: int
    height: int
    steps: int
    cfg_scale: float
    seed: int
    scheduler: str
    num_images: int


def resolve(order: Order, tier: str) -> tuple[CatalogEntry, Parameters]:
    """Fill an order in from the catalogue and check it.

    Raises:
        Invalid: no such model, or a value the model cannot do; `errors` names each field.
        TierRequired: the model is for a higher plan.
    """
    entry = entries.find(order.model)
    if entry is None:
        raise Invalid.at("model", f"There is no model {order.model!r}; GET /api/v1/models lists yours.")
    if not entries.may_use(tier, entry):
        raise TierRequired(
            f"{entry.slug} is for the {entry.min_tier} plan and above.", required=entry.min_tier
        )
    sides = {"width": order.width or entry.default_side, "height": order.height or entry.default_side}
    for name, side in sides.items():
        _check_side(name, side, entry)
    scheduler = order.scheduler or entry.default_scheduler
    allowed = FAMILIES[entry.family].samplers
    if scheduler not in allowed:
        raise Invalid.at("scheduler", f"{entry.slug} takes {', '.join(allowed)}; not {scheduler!r}.")
    return entry, Parameters(
        negative_prompt=order.negative_prompt,
        steps=order.steps or entry.default_steps,
        cfg_scale=entry.default_cfg_scale if order.cfg_scale is None else order.cfg_scale,
        # Chosen here and not by the worker, so that a retry draws the same picture.
        seed=secrets.randbelow(2**32) if order.seed is None else order.seed,
        scheduler=scheduler,
        num_images=order.num_images,
        **sides,
    )


def _check_side(name: str, side: int, entry: CatalogEntry) -> None:
    if not entry.min_side <= side <= entry.max_side or side % entry.side_multiple:
        wanted = f"{entry.min_side} to {entry.max_side} in multiples of {entry.side_multiple}"
        raise Invalid.at(name, f"{entry.slug} takes {wanted}; not {side}.")


def price(order: Order, tier: str) -> tuple[CatalogEntry, Parameters, Quote]:
    """Return what an order would run as and cost; see `resolve` for the errors."""
    entry, parameters = resolve(order, tier)
    return (
        entry,
        parameters,
        quote(
            steps=parameters.steps,
            width=parameters.width,
            height=parameters.height,
            num_images=parameters.num_images,
            price_factor=entry.price_factor,
            rate=eta.gpu_rate(entry.slug, parameters.width, parameters.height),
        ),
    )


@dataclass(frozen=True)
class Accepted:
    """A job that is in the books; `wait_seconds` is the median estimate until it starts."""

    job_id: UUID
    credits: int
    wait_seconds: float


def submit(user_id: UUID, tier: str, order: Order, *, by_key: bool = False) -> Accepted:
    """Accept a job: hold and row in one transaction, then ring the tier's queue.

    `by_key`: it came with an API key, which costs the plan's fee and one of its calls of the month.

    Raises:
        Invalid, TierRequired: see `resolve`; the latter also for a key where the plan has no calls.
        TooMany: no calls with API keys are left this month.
        TierDraining: operators let this tier take no new jobs.
        NoWorker: no worker that is up can run the model.
        InsufficientCredits: the user cannot pay the quote.
        QueueFull: the user has as many jobs waiting as the plan allows.
    """
    return submit_all(user_id, tier, [order], by_key=by_key)[0]


def submit_batch(
    user_id: UUID, tier: str, orders: Sequence[Order], *, by_key: bool = False
) -> list[Accepted]:
    """Accept several jobs or none, for plans that include batches; see `submit` for the other errors.

    Raises:
        TierRequired: the plan has no batches.
        Invalid: more than may ever wait.
    """
    if FEATURE_BATCH not in plans.of(tier).features:
        lowest = [other for other, plan in plans.table().items() if FEATURE_BATCH in plan.features][-1]
        raise TierRequired(f"Batches are for the {lowest} plan and above.", required=lowest)
    room = plans.limit(plans.of(tier).max_queue_size)
    if room is not None and len(orders) > room:
        raise Invalid.at(
            "prompts", f"Your plan lets {room} jobs wait, so a batch has {room} prompts at most."
        )
    return submit_all(user_id, tier, orders, by_key=by_key)


def submit_all(user_id: UUID, tier: str, orders: Sequence[Order], *, by_key: bool = False) -> list[Accepted]:
    """Accept several jobs or none; see `submit` for the errors."""
    tiers.check_open(tier)
    call = accepting.call(tier) if by_key else None
    forecast = cache(partial(_forecast, tier))  # the jobs of a batch are much the same work
    drafts = [_draft(order, tier, forecast) for order in orders]
    plan = plans.of(tier)
    values = {
        "customer": str(user_id),
        "tier": tier,
        "metered": plan.unlimited,
        "room": plans.limit(plan.max_queue_size),
        "places": plans.limit(plan.max_concurrent_jobs),
        "jobs": drafts,
        "call": call,
    }
    reply = accepting.accept(values)
    accepting.check(reply, values, plan)
    rung = set(reply.rung)
    accepted = [
        Accepted(UUID(draft["id"]), draft["quote"], wait)
        for draft, wait in zip(drafts, reply.waits, strict=True)
    ]
    for job, draft in zip(accepted, drafts, strict=True):
        if job.job_id in rung:
            eta.joined(tier)
            bell = Bell(job.job_id, tier, draft["model"], draft["priority"], attempt=0)
            db.after_commit(partial(dispatch.announce, bell))
    return accepted


def _draft(order: Order, tier: str, forecast: Callable[[Work], dict[str, float]]) -> dict[str, Any]:
    """Return a job as the database function `accept_jobs` (migration 0012) takes it."""
    entry, parameters, priced = price(order, tier)
    refusals.check(entry, tier)
    wanted = vars(parameters)
    return {
        "id": str(ids.new()),
        "posting": str(ids.new()),  # of the ledger
        "priority": order.priority,
        "model": order.model,
        "prompt": order.prompt,
        "parameters": wanted,
        "quote": priced.credits,
        **forecast(Work.of(order.model, wanted)),
    }


def _forecast(tier: str, work: Work) -> dict[str, float]:
    wait = eta.estimate(tier, work)
    return {
        "eta_p50": wait.p50,
        "eta_p90": wait.p90,
        "eta_turn": eta.turn_seconds(tier, work, wait),
        "run_seconds": eta.run_seconds(work),
    }
