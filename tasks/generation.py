"""One task = one job: claim, run, store, complete. The message carries an id; the row carries the truth."""

import logging
import time
from functools import partial
from uuid import UUID

from gpu_worker.errors import Cancelled, EngineError, EngineStopped
from gpu_worker.request import GenerationRequest
from pingvas import faults, settings
from pingvas.billing.plans import Tier
from pingvas.errors import Unavailable
from pingvas.gallery import pictures
from pingvas.jobs import dispatch, lifecycle
from pingvas.jobs.lifecycle import Claim, Failure, Outcome
from tasks import app, sources, worker
from tasks.broker import turns
from tasks.heartbeat import Pulse, heartbeat
from tasks.progress import reporter

log = logging.getLogger(__name__)

HUNG_AFTER_SECONDS = 60.0


@app.task(name=dispatch.GENERATE)
def generate_image(job_id: str) -> str:
    """Run a job if it is still there to be run, and say what it came to."""
    held = lifecycle.claim(UUID(job_id), worker.name())
    if held is None:
        return "not pending"
    faults.point("claimed")
    if not worker.holds(held.model):
        log.warning("job %s: this worker does not hold %s, it goes to another", job_id, held.model)
        return lifecycle.hand_back(held).value
    with heartbeat.keep(held, partial(worker.cancel, _request_id(held))) as pulse:
        try:
            outcome = _run(held)
        except EngineError as error:
            outcome = _end_early(held, pulse, error)
        except Unavailable as error:
            outcome = lifecycle.fail(held, Failure("STORE_UNAVAILABLE", error.detail, True, error))
    log.info("job %s attempt %s: %s", job_id, held.attempt, outcome)
    faults.point("completed")
    return outcome.value


def _run(held: Claim) -> Outcome:
    seconds = _running_seconds(held)
    request = _request(held, time.monotonic() + seconds)
    # A device that hangs looks at no deadline. Then the lease is let go, and another worker takes the job.
    future = worker.engine().submit(request, partial(reporter.tell, held.job_id))
    result = future.result(seconds + HUNG_AFTER_SECONDS)
    faults.point("drawn")
    turns.spent(result.gpu_seconds)
    stored: list[pictures.Stored] = []
    try:
        for picture in result.pictures:
            stored.append(pictures.store(held.user_id, picture))
            faults.point("stored")
        reporter.flush()
        outcome = lifecycle.complete(held, stored, result.gpu_seconds)
    except Unavailable:
        pictures.discard(held.user_id, stored)
        raise
    if outcome is Outcome.STALE:
        pictures.discard(held.user_id, stored)
    return outcome


def _running_seconds(held: Claim) -> float:
    """Return how long an attempt may run: what the customer was quoted must fit twice."""
    return max(settings.get().job_deadline_seconds, 2.0 * held.credits_quoted)


def _end_early(held: Claim, pulse: Pulse, error: EngineError) -> Outcome:
    turns.spent(error.gpu_seconds)
    if pulse.stale:
        return Outcome.STALE
    if isinstance(error, Cancelled):
        return lifecycle.cancelled(held, error.gpu_seconds or 0.0)
    if isinstance(error, EngineStopped):
        return lifecycle.hand_back(held)
    log.warning("job %s attempt %s failed", held.job_id, held.attempt, exc_info=error)
    return lifecycle.fail(held, Failure(error.code, str(error), error.retryable, error))


def _request_id(held: Claim) -> str:
    return f"{held.job_id}:{held.attempt}"  # the attempt before may still be on its way out of the engine


def _request(held: Claim, deadline: float) -> GenerationRequest:
    wanted = held.parameters
    return GenerationRequest(
        id=_request_id(held),
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
        deadline=deadline,
    )
