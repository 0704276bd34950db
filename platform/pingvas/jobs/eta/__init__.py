"""When a job will start: predicted from a picture of the queues that is at most seconds old.

What is asked on every request (`estimate`) touches neither database nor network.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from pingvas import clock, db, settings, workers
from pingvas.billing import plans
from pingvas.billing.plans import Tier
from pingvas.jobs import tiers
from pingvas.jobs.eta import places, prediction, snapshots
from pingvas.jobs.eta.picture import UNKNOWN_SECONDS, Marks, Picture
from pingvas.jobs.eta.prediction import Newcomer, Pool, TierLoad, Wait
from pingvas.jobs.eta.service import Work
from pingvas.jobs.models import Job, Status

__all__ = [
    "Place",
    "Wait",
    "Work",
    "counted",
    "estimate",
    "gpu_rate",
    "joined",
    "next_place_seconds",
    "of_jobs",
    "of_tier",
    "run_seconds",
    "turn_seconds",
]


_PAUSED_SECONDS = 60


@dataclass(frozen=True)
class Place:
    """Where a waiting job stands: its position in its tier, counted from 1, and its wait from now on.

    Of a paused tier nobody knows when it opens: there is no wait.
    """

    position: int
    wait: Wait | None


def estimate(tier: str, work: Work, own_ahead: int = 0) -> Wait:
    """Predict the wait of a job that joins a tier's queue now.

    `own_ahead` counts the jobs that its user has waiting or running: each `max_concurrent_jobs` of them
    take a turn before it.
    """
    picture = snapshots.current.get()
    age = round(_age(picture), 1)
    asked = (tier, work, own_ahead, age)
    known = picture.estimates.get(asked)
    if known is None:
        known = picture.estimates[asked] = _estimate(picture, tier, work, own_ahead, age)
    return known


def _estimate(picture: Picture, tier: str, work: Work, own_ahead: int, age: float) -> Wait:
    most = _places(tier)
    turns = 0 if most is None else own_ahead // most
    seconds = picture.service.seconds(work)
    job = Newcomer(tier, picture.loads[tier].ahead(turns, most), turns, seconds)
    return _predict(picture, job, picture.families.get(work.model), age)


def turn_seconds(tier: str, work: Work, first: Wait) -> float:
    """Return how much longer than `first` the median wait is for each turn that the user's own jobs take."""
    most = _places(tier)
    return 0.0 if most is None else max(0.0, estimate(tier, work, own_ahead=most).p50 - first.p50)


def run_seconds(work: Work) -> float:
    """Return how long a job is expected to run."""
    return snapshots.current.get().service.seconds(work)


def gpu_rate(model: str, width: int, height: int) -> float | None:
    """Return the GPU seconds that a step of a megapixel takes; None before enough was measured."""
    return snapshots.current.get().device.rate(model, width, height)


def counted(tier: str, beyond: int) -> tuple[UUID | None, int]:
    """Return the job up to which a tier's waiting jobs have been counted, and their number.

    None and 0 where no more than `beyond` wait: those are counted quickly enough.
    """
    job_id, number = snapshots.current.get().marks.get(tier, Marks()).last
    return (job_id, number) if number > beyond else (None, 0)


def joined(tier: str) -> None:
    """Count a job that has just been rung for, until the next picture shows it."""
    snapshots.current.joined(tier)


def of_tier(tier: str) -> Wait:
    """Predict the wait of a job of a user who has no others, whatever its model."""
    picture = snapshots.current.get()
    return _predict(picture, Newcomer(tier, picture.loads[tier].ahead(0, _places(tier))), None, _age(picture))


def of_jobs(session: Session, jobs: Sequence[Job]) -> dict[UUID, Place]:
    """Return where one user's waiting jobs stand; those that do not wait are left out."""
    waiting = [job for job in jobs if job.status == Status.PENDING]
    if not waiting:
        return {}
    picture = snapshots.current.get()
    standings = places.count(session, picture, waiting[0].user_id, waiting)
    paused = tiers.known_paused()
    return {
        job.id: Place(standing.waiting + 1, None if job.tier in paused else _wait_of(picture, job, standing))
        for job, standing in zip(waiting, standings, strict=True)
    }


def next_place_seconds(user_id: UUID) -> int:
    """Return the whole seconds, at least one, until a user's first waiting job is likely to start.

    That is when a full queue has room again. A minute while the tier is paused.
    """
    first = select(Job).where(Job.user_id == user_id, Job.status == "pending").order_by(Job.id).limit(1)
    with db.transaction() as session:
        job = session.scalars(first).first()
        if job is None:
            return 1
        wait = of_jobs(session, [job])[job.id].wait
        return _PAUSED_SECONDS if wait is None else max(1, math.ceil(wait.p50))


def _wait_of(picture: Picture, job: Job, standing: places.Standing) -> Wait:
    most = _places(job.tier)
    if job.rung_at is not None or most is None:
        newcomer = Newcomer(job.tier, standing.rung)
    else:
        turns = max(1, standing.own // most)
        ahead = min(standing.waiting, picture.loads[job.tier].ahead(turns, most))
        seconds = picture.service.seconds(Work.of(job.model, job.parameters))
        newcomer = Newcomer(job.tier, ahead, turns, seconds)
    wait = _predict(picture, newcomer, picture.families.get(job.model))
    if newcomer.turns and most:
        wait = wait.not_before(standing.own_seconds / most)
    return wait.not_before((job.run_after - clock.now()).total_seconds())  # a retry's back-off


def _age(picture: Picture) -> float:
    return max(0.0, time.monotonic() - picture.taken)


def _predict(picture: Picture, job: Newcomer, family: str | None, age: float = 0.0) -> Wait:
    loads = picture.loads
    for tier in tiers.known_paused() - {job.tier}:  # what runs there goes on, what waits takes no share
        loads = {**loads, tier: TierLoad(running=loads[tier].running)}
    wait = prediction.predict(loads, _pool(picture, job.tier, family), job, age)
    return Wait(round(wait.p50, 3), round(wait.p90, 3))


def _pool(picture: Picture, tier: str, family: str | None) -> Pool:
    able = (
        worker.slots
        for worker in workers.live()
        if tier in worker.tiers and (family is None or family in worker.families)
    )
    running = sum(load.running for load in picture.loads.values())
    # With nobody there the wait is unknown; it is told for the day when one worker is back.
    slots = sum(able) or running or settings.get().worker_concurrency
    mean = picture.crowded.mean or UNKNOWN_SECONDS
    return Pool(slots, _classes(), _weights(), mean, picture.crowded.variation, picture.pickup)


@cache
def _weights() -> dict[str, float]:
    return {tier.value: float(plan.weight) for tier, plan in plans.table().items()}


def _classes() -> Sequence[Sequence[str]]:
    return _STRICT if settings.get().queue_order == "strict" else _WEIGHTED


_STRICT = tuple((tier.value,) for tier in Tier)
_WEIGHTED = ((Tier.ENTERPRISE.value,), tuple(tier.value for tier in Tier if tier is not Tier.ENTERPRISE))


def _places(tier: str) -> int | None:
    return plans.limit(plans.of(tier).max_concurrent_jobs)
