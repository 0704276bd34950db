"""One task = one job: claim, run, deliver. The message carries an id; the row carries the truth."""

import logging
import time
from concurrent.futures import Future
from functools import partial
from uuid import UUID

from celery.exceptions import Reject

from gpu_worker.errors import Cancelled, DeadlineExceeded, EngineError, EngineStopped
from gpu_worker.request import GenerationRequest, GenerationResult
from pingvas import faults
from pingvas.billing.plans import Tier
from pingvas.errors import Unavailable
from pingvas.jobs import dispatch, lifecycle
from pingvas.jobs.lifecycle import Claim, Failure, Outcome
from pingvas.storage import ObjectKeyError
from tasks import app, delivery, sources, worker
from tasks.broker import turns
from tasks.delivery import Interrupted
from tasks.gate import Closed, Place
from tasks.heartbeat import Pulse, Why, heartbeat
from tasks.progress import reporter

log = logging.getLogger(__name__)

HUNG_AFTER_SECONDS = 60.0  # past the deadline, which the engine heeds at its next step


class Hung(Exception):
    """The device makes no step any more."""


@app.task(name=dispatch.GENERATE)
def generate_image(job_id: str) -> str:
    """Run a job if it is still there to be run, and say what it came to."""
    try:
        if worker.is_ready():
            with worker.gate.enter() as place:
                return _generate(UUID(job_id), place)
    except Closed:
        pass
    raise Reject("the worker leaves", requeue=True)


def _generate(job_id: UUID, place: Place) -> str:
    held = lifecycle.claim(job_id, worker.name())
    if held is None:
        return "not pending"
    faults.point("claimed")
    if not worker.holds(held.model):
        log.warning("job %s: this worker does not hold %s, it goes to another", job_id, held.model)
        return lifecycle.hand_back(held).value
    with heartbeat.keep(held, partial(_stop, held)) as pulse:
        outcome = _attempt(held, pulse, place)
    log.info("job %s attempt %s: %s", job_id, held.attempt, outcome)
    faults.point("completed")
    return outcome.value


def _attempt(held: Claim, pulse: Pulse, place: Place) -> Outcome:
    try:
        if held.suspect and not _alone(held, pulse, place):
            return _interrupted(held, pulse, 0.0)
        drawn = delivery.kept(held.job_id) or _draw(held)
        return delivery.deliver(held, pulse, drawn)
    except Interrupted as interrupted:
        return _interrupted(held, pulse, interrupted.gpu_seconds)
    except EngineError as error:
        return _end_early(held, pulse, error)
    except Unavailable as error:
        return lifecycle.fail(held, Failure("STORE_UNAVAILABLE", error.detail, True, error))
    except ObjectKeyError as error:  # something else lies in the place of a picture
        detail = "The object store cannot take the pictures."
        return lifecycle.fail(held, Failure("STORE_UNAVAILABLE", detail, True, error))
    except Hung as error:
        worker.give_up(str(error))
        return lifecycle.miss(held, error)
    except Exception as error:
        lifecycle.fail(held, Failure("INTERNAL_ERROR", "Something unexpected happened.", True, error))
        raise


def _alone(held: Claim, pulse: Pulse, place: Place) -> bool:
    """Wait until nothing else runs here: if this worker is lost too, no other job shares the blame."""
    log.warning("job %s attempt %s runs alone: it was lost with a worker", held.job_id, held.attempt)
    return place.alone(lambda: pulse.why is not None) and lifecycle.run_alone(held) is Outcome.DONE


def _draw(held: Claim) -> GenerationResult:
    request = _request(held, time.monotonic() + held.running_seconds)
    future = worker.engine().submit(request, partial(reporter.tell, held.job_id))
    result = _result(future, held.running_seconds + HUNG_AFTER_SECONDS)
    faults.point("drawn")
    turns.spent(result.gpu_seconds)
    return result


def _result(future: "Future[GenerationResult]", seconds: float) -> GenerationResult:
    try:
        return future.result(seconds)
    except TimeoutError:
        raise Hung("the device makes no step any more") from None


def _stop(held: Claim) -> None:
    worker.cancel(_request_id(held))
    worker.gate.look_again()


def _interrupted(held: Claim, pulse: Pulse, gpu_seconds: float) -> Outcome:
    if pulse.why is Why.CANCELLED:
        return lifecycle.cancelled(held, gpu_seconds)
    return Outcome.STALE if pulse.why is Why.STALE else lifecycle.hand_back(held)


def _end_early(held: Claim, pulse: Pulse, error: EngineError) -> Outcome:
    turns.spent(error.gpu_seconds)
    if pulse.why is Why.STALE:
        return Outcome.STALE
    if isinstance(error, Cancelled):
        return _interrupted(held, pulse, error.gpu_seconds or 0.0)
    if isinstance(error, EngineStopped):
        return lifecycle.hand_back(held)
    log.warning("job %s attempt %s failed", held.job_id, held.attempt, exc_info=error)
    if isinstance(error, DeadlineExceeded):
        return lifecycle.miss(held, error)
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
