"""One task = one job: claim, run, store, complete. The message carries an id; the row carries the truth."""

import logging
import time
from functools import partial
from uuid import UUID

from gpu_worker.errors import Cancelled, EngineError, EngineStopped
from gpu_worker.request import GenerationRequest, Progress
from pingvas.billing.plans import Tier
from pingvas.errors import Unavailable
from pingvas.gallery import pictures
from pingvas.jobs import dispatch, events, lifecycle
from pingvas.jobs.lifecycle import Claim, Failure, Outcome
from tasks import app, sources, worker
from tasks.heartbeat import Pulse, heartbeat

log = logging.getLogger(__name__)


@app.task(name=dispatch.GENERATE)
def generate_image(job_id: str) -> str:
    """Run a job if it is still there to be run, and say what it came to."""
    held = lifecycle.claim(UUID(job_id), worker.name())
    if held is None:
        return "not pending"
    with heartbeat.keep(held, partial(worker.cancel, job_id)) as pulse:
        try:
            outcome = _run(held)
        except EngineError as error:
            outcome = _end_early(held, pulse, error)
        except Unavailable as error:
            outcome = lifecycle.fail(held, Failure("STORE_UNAVAILABLE", error.detail, retryable=True))
    log.info("job %s attempt %s: %s", job_id, held.attempt, outcome)
    return outcome.value


def _run(held: Claim) -> Outcome:
    request = _request(held)
    result = worker.engine().submit(request, partial(_tell, held.job_id)).result()
    stored = [pictures.store(held.user_id, picture) for picture in result.pictures]
    outcome = lifecycle.complete(held, stored, result.gpu_seconds)
    if outcome is Outcome.STALE:
        pictures.discard(held.user_id, stored)
    return outcome


def _end_early(held: Claim, pulse: Pulse, error: EngineError) -> Outcome:
    if pulse.stale:
        return Outcome.STALE
    if isinstance(error, Cancelled):
        return lifecycle.cancelled(held)
    if isinstance(error, EngineStopped):
        return lifecycle.hand_back(held)
    log.warning("job %s attempt %s failed", held.job_id, held.attempt, exc_info=error)
    return lifecycle.fail(held, Failure(error.code, str(error), error.retryable))


def _request(held: Claim) -> GenerationRequest:
    wanted = held.parameters
    return GenerationRequest(
        id=str(held.job_id),
        model=sources.of(held.model),
        prompt=held.prompt,
        negative_prompt=wanted["negative_prompt"],
        width=wanted["width"],
        height=wanted["height"],
        steps=wanted["steps"],
        guidance=wanted["cfg_scale"],
        seed=wanted["seed"],
        scheduler=wanted["scheduler"],
        num_images=wanted["num_images"],
        tier_rank=Tier(held.tier).rank,
        deadline=time.monotonic() + worker.deadline_seconds(),
    )


def _tell(job_id: UUID, progress: Progress) -> None:
    events.progress(job_id, progress.step, progress.total_steps)
