"""Accepting a job: check it against the catalogue and the plan, price it, hold its price, insert it."""

import secrets
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from pingvas import db, ids
from pingvas.billing import ledger, plans
from pingvas.catalog import entries
from pingvas.catalog.families import FAMILIES
from pingvas.catalog.models import CatalogEntry
from pingvas.errors import Invalid, QueueFull, TierRequired
from pingvas.jobs import dispatch, eta, lifecycle
from pingvas.jobs.models import Job
from pingvas.jobs.quote import Quote, quote

MAX_SEED = 2**63 - 1


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
        raise _invalid("model", f"There is no model {order.model!r}; GET /api/v1/models lists yours.")
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
        raise _invalid("scheduler", f"{entry.slug} takes {', '.join(allowed)}; not {scheduler!r}.")
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
        raise _invalid(name, f"{entry.slug} takes {wanted}; not {side}.")


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(message, errors=[{"loc": [field], "msg": message, "type": "value_error"}])


def price(order: Order, tier: str) -> tuple[Parameters, Quote]:
    """Return what an order would run as and cost; see `resolve` for the errors."""
    entry, parameters = resolve(order, tier)
    return parameters, quote(
        steps=parameters.steps,
        width=parameters.width,
        height=parameters.height,
        num_images=parameters.num_images,
        price_factor=entry.price_factor,
    )


@dataclass(frozen=True)
class Accepted:
    """A job that is in the books; `wait_seconds` is the median estimate until it starts."""

    job: Job
    wait_seconds: float


def submit(user_id: UUID, tier: str, order: Order) -> Accepted:
    """Accept a job in one transaction (hold and row), then ring the tier's queue.

    Raises:
        Invalid, TierRequired: see `resolve`.
        InsufficientCredits: the user cannot pay the quote.
        QueueFull: the user has as many jobs waiting as the plan allows.
    """
    parameters, priced = price(order, tier)
    plan = plans.of(tier)
    job = Job(
        id=ids.new(),
        user_id=user_id,
        kind="text2image",
        tier=tier,
        priority=order.priority,
        model=order.model,
        prompt=order.prompt,
        parameters=asdict(parameters),
        credits_quoted=priced.credits,
    )
    with db.transaction() as session:
        # The wallet's lock also makes this user's submits take turns, so the count below holds.
        ledger.hold(session, user_id, job.id, priced.credits, metered=plan.unlimited)
        wait = eta.estimate(session, tier)
        _check_room(session, user_id, plan, wait.p50)
        lifecycle.create(session, job)
        dispatch.refill(session, user_id)
    return Accepted(job, wait.p50)


def _check_room(session: Session, user_id: UUID, plan: plans.Plan, wait: float) -> None:
    room = plans.limit(plan.max_queue_size)
    if room is None:
        return
    query = text("SELECT count(*) FROM jobs WHERE user_id = :user AND status = 'pending'")
    waiting = session.scalar(query, {"user": user_id}) or 0
    if waiting >= room:
        message = f"{waiting} of your jobs are waiting and the {plan.title} plan allows {room}."
        raise QueueFull(message, policy="waiting-jobs", limit=room, retry_after=max(1, round(wait)))
