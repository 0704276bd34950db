"""The picture of queues and service times that predictions are made from, read in five bounded queries."""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, quantiles
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from pingvas.billing.plans import Tier
from pingvas.jobs.eta import prediction
from pingvas.jobs.eta import service as times
from pingvas.jobs.eta.prediction import TierLoad, Wait
from pingvas.jobs.eta.service import FEW, Sample, ServiceTimes, Work, measure

MARK_EVERY = 100  # waiting jobs between two marks
INFLOW_SECONDS = 60
UNKNOWN_SECONDS = 2.0  # of service, before anything was measured
UNKNOWN_PICKUP = Wait(0.02, 0.1)
_IDLE_SECONDS = 0.5  # predicted median up to which a job has found a free slot
_MOST_TURNS = 64

# As many rows as wait: what the refresh costs most of. `Snapshots` asks the less often the longer it takes.
_WAITING = text(f"""
    WITH waiting AS MATERIALIZED (
        SELECT tier, id, user_id, rung_at IS NOT NULL AS rung FROM job_queue WHERE status = 'pending'
    ), marks AS (
        SELECT tier, id, row_number() OVER line AS place,
               count(*) FILTER (WHERE rung) OVER line AS rung_before
        FROM waiting WINDOW line AS (PARTITION BY tier ORDER BY id ROWS UNBOUNDED PRECEDING)
    ), users AS (
        SELECT tier, user_id, count(*) FILTER (WHERE NOT rung) AS unrung, count(*) FILTER (WHERE rung) AS rung
        FROM waiting GROUP BY tier, user_id
    )
    SELECT 'mark' AS kind, tier, id, place, rung_before FROM marks WHERE place % {MARK_EVERY} = 0
    UNION ALL
    SELECT 'users', tier, NULL, least(unrung, {_MOST_TURNS}), count(*)
    FROM users WHERE unrung > 0 GROUP BY tier, 4
    UNION ALL
    SELECT 'rung', tier, NULL, sum(rung)::bigint, NULL FROM users GROUP BY tier
    ORDER BY 1, 2, 4""")  # noqa: S608 (numbers of this module)

_NEXT = text("""
    SELECT tier, model, width, height, steps, num_images FROM unnest(CAST(:tiers AS text[])) AS of_tier
    CROSS JOIN LATERAL (
        SELECT tier, model, width, height, steps, num_images FROM job_queue
        WHERE status = 'pending' AND tier = of_tier ORDER BY id LIMIT 200
    ) AS next""")

_RUNNING = text("SELECT tier, count(*) FROM job_queue WHERE status = 'in_progress' GROUP BY tier")

_ARRIVED = text("""
    SELECT tier, count(*) FROM job_queue WHERE id > :since GROUP BY tier""")

_DONE = text("""
    SELECT model, width, height, steps, num_images,
           extract(epoch FROM completed_at - started_at)::float AS seconds, gpu_seconds,
           CASE WHEN attempt = 1 AND eta_p50 < :idle
                THEN extract(epoch FROM started_at - created_at)::float END AS pickup
    FROM job_queue WHERE status = 'completed' ORDER BY completed_at DESC LIMIT 500""")

_MODELS = text("SELECT slug, family, price_factor FROM catalog_entries")


@dataclass(frozen=True, slots=True)
class Marks:
    """Every hundredth waiting job of a tier by id, and how many of those up to it are on the broker."""

    ids: Sequence[UUID] = ()
    rung: Sequence[int] = ()

    def before(self, job_id: UUID) -> tuple[UUID | None, int, int]:
        """Return the last mark before a job, and how many jobs, and jobs on the broker, it closes."""
        index = bisect_left(self.ids, job_id)
        if index == 0:
            return None, 0, 0
        return self.ids[index - 1], index * MARK_EVERY, self.rung[index - 1]

    @property
    def last(self) -> tuple[UUID | None, int]:
        """Return the last mark, and how many jobs it closes."""
        return (self.ids[-1], len(self.ids) * MARK_EVERY) if self.ids else (None, 0)


@dataclass(frozen=True, slots=True)
class Picture:
    """What was true at `taken` (the monotonic clock), in jobs and seconds.

    `service` is what jobs take as things are, `crowded` where all slots are in use, as while jobs wait;
    `device` is what they use of the device alone.
    """

    taken: float
    loads: Mapping[str, TierLoad]
    marks: Mapping[str, Marks] = field(default_factory=dict)
    service: ServiceTimes = field(default_factory=ServiceTimes)
    crowded: ServiceTimes = field(default_factory=ServiceTimes)
    device: ServiceTimes = field(default_factory=ServiceTimes)
    pickup: Wait = UNKNOWN_PICKUP
    families: Mapping[str, str] = field(default_factory=dict)
    estimates: dict[Hashable, Wait] = field(default_factory=dict, compare=False, repr=False)
    """What was already predicted from this picture, for those who ask the same at the same time."""

    def with_another(self, tier: str) -> "Picture":
        """Return the picture with one more job on a tier's queue."""
        return replace(self, loads={**self.loads, tier: prediction.joined(self.loads[tier])}, estimates={})


def blank() -> Picture:
    """Return what is assumed where nothing can be read."""
    return Picture(time.monotonic(), {tier.value: TierLoad() for tier in Tier})


def take(session: Session, slots: int) -> Picture:
    """Read a picture; the time depends on how much waits. `slots` is how many jobs share a device."""
    taken = time.monotonic()
    models = session.execute(_MODELS).all()
    done = session.execute(_DONE, {"idle": _IDLE_SECONDS}).all()
    samples = [Sample(_work(row), row.seconds, row.gpu_seconds or 0.0) for row in done]
    price_factors = {row.slug: row.price_factor for row in models}
    crowded = measure(times.crowded(samples, slots), price_factors)
    marks, rung, unrung = _waiting(session.execute(_WAITING))
    running = {row[0]: row[1] for row in session.execute(_RUNNING)}
    arrived = {row[0]: row[1] for row in session.execute(_ARRIVED, {"since": first_id(INFLOW_SECONDS)})}
    seconds = _mean_seconds(session, crowded)
    loads = {}
    for tier in Tier:
        mean = seconds.get(tier, crowded.mean or UNKNOWN_SECONDS)
        inflow = arrived.get(tier, 0) * mean / INFLOW_SECONDS
        loads[tier.value] = TierLoad(
            rung.get(tier, 0), running.get(tier, 0), mean, inflow, unrung.get(tier, {})
        )
    service = measure(samples, price_factors)
    device = measure([replace(it, seconds=it.gpu_seconds) for it in samples if it.gpu_seconds], {})
    families = {row.slug: row.family for row in models}
    return Picture(taken, loads, marks, service, crowded, device, _pickup(done), families)


def _waiting(
    rows: Any,
) -> tuple[dict[str, Marks], dict[str, int], dict[str, dict[int, int]]]:
    ids: dict[str, list[UUID]] = defaultdict(list)
    rung_before: dict[str, list[int]] = defaultdict(list)
    rung: dict[str, int] = {}
    unrung: dict[str, dict[int, int]] = defaultdict(dict)
    for kind, tier, job_id, number, count in rows:
        if kind == "mark":
            ids[tier].append(job_id)
            rung_before[tier].append(count)
        elif kind == "users":
            unrung[tier][number] = count
        else:
            rung[tier] = number
    return {tier: Marks(ids[tier], rung_before[tier]) for tier in ids}, rung, unrung


def _mean_seconds(session: Session, service: ServiceTimes) -> dict[str, float]:
    """Return the mean service of each tier's next jobs."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for row in session.execute(_NEXT, {"tiers": [tier.value for tier in Tier]}):
        seconds[row.tier].append(service.seconds(_work(row)))
    return {tier: fmean(each) for tier, each in seconds.items()}


def _work(row: Any) -> Work:
    return Work(row.model, row.width, row.height, row.steps, row.num_images)


def _pickup(done: Sequence[Any]) -> Wait:
    """Return what jobs waited that found a free slot."""
    waits = [row.pickup for row in done if row.pickup is not None]
    if len(waits) < FEW:
        return UNKNOWN_PICKUP
    deciles = quantiles(waits, n=10, method="inclusive")
    return Wait(deciles[4], deciles[8])


def first_id(seconds: float) -> UUID:
    """Return the least id that was made so many seconds ago: an UUIDv7 begins with its time."""
    return UUID(int=int(1_000 * (time.time() - seconds)) << 80)
