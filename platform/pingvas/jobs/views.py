"""Routes of generation."""

import math
from functools import partial

from flask import Response, request

from pingvas import db, events, ids
from pingvas.billing import plans
from pingvas.errors import AlreadyFinished, InsufficientCredits, NotFound, NoWorker, QueueFull, TierRequired
from pingvas.events.model import position
from pingvas.gallery import pictures
from pingvas.jobs import eta, finding, lifecycle, presenter, queues, submit, tiers
from pingvas.jobs.finding import Found
from pingvas.jobs.lifecycle import Outcome
from pingvas.jobs.models import Job, Status
from pingvas.jobs.schema import (
    BatchAccepted,
    BatchBody,
    CancelReply,
    GenerateBody,
    JobAccepted,
    JobReply,
    JobsQuery,
    Links,
    QueueReply,
    QueuesReply,
    QuoteReply,
    WaitReply,
)
from pingvas.jobs.submit import Accepted
from pingvas.jobs.tiers import TierDraining
from pingvas.web import auth, paging
from pingvas.web.api import Answer, Blueprint, endpoint
from pingvas.web.paging import Page
from pingvas.web.urls import base_url

bp = Blueprint("jobs", tag="Generation")

SUBMIT_ERRORS = (InsufficientCredits, TierRequired, QueueFull, TierDraining, NoWorker)
_accepts = partial(endpoint, errors=SUBMIT_ERRORS, scope="generate", idempotent=True, limit="generate")
_accepts_one = partial(
    _accepts, body=GenerateBody, reply=JobAccepted, reply_headers={"Location": "Path of the job."}
)


@bp.post("/generate")
@_accepts_one(status=202)
def generate(body: GenerateBody) -> Answer:
    """Accept a job

    Holds the quoted credits and puts the job on the plan's queue.
    """
    return _accept(body)


@bp.post("/generation/create")
@_accepts_one()
def create(body: GenerateBody) -> Answer:
    """Accept a job (older clients)

    The same as `POST /generate`, answering 200.
    """
    return _accept(body)


def _accept(body: GenerateBody) -> Answer:
    user = auth.current()
    reply = _accepted(submit.submit(user.id, user.tier, body.order(), by_key=user.via == "key"))
    return Answer(reply, headers={"Location": reply.links.self})


def _accepted(job: Accepted) -> JobAccepted:
    path = f"/api/v1/jobs/{job.job_id}"
    return JobAccepted(
        job_id=str(job.job_id),
        status="pending",
        estimated_credits=job.credits,
        estimated_wait_seconds=math.ceil(job.wait_seconds),
        links=Links(self=path, cancel=f"{path}/cancel", events=f"{path}/events"),
    )


@bp.post("/generate/batch")
@_accepts(body=BatchBody, reply=BatchAccepted, status=202)
def generate_batch(body: BatchBody) -> BatchAccepted:
    """Accept a batch

    A job for each of up to 100 prompts: all are accepted or none. They run below interactive jobs of the
    same plan.
    """
    user = auth.current()
    jobs = submit.submit_batch(user.id, user.tier, body.orders(), by_key=user.via == "key")
    return BatchAccepted(
        jobs=[_accepted(job) for job in jobs],
        estimated_credits=sum(job.credits for job in jobs),
        estimated_wait_seconds=math.ceil(max(job.wait_seconds for job in jobs)),
    )


@bp.post("/quote")
@endpoint(body=GenerateBody, reply=QuoteReply, errors=(TierRequired,), limit="read")
def quote(body: GenerateBody) -> QuoteReply:
    """Price a job

    Nothing is written and nothing held.
    """
    user = auth.current()
    order = body.order()
    _, ordered, priced = submit.price(order, user.tier)
    wait = eta.estimate(user.tier, eta.Work.of(order.model, vars(ordered)))
    return QuoteReply(
        credits=priced.credits,
        api_call_credits=plans.prices().api_call_credits if user.via == "key" else 0,
        estimated_gpu_seconds=priced.gpu_seconds,
        estimated_wait_seconds=WaitReply(p50=wait.p50, p90=wait.p90),
    )


@bp.get("/jobs")
@endpoint(query=JobsQuery, reply=Page[JobReply])
def list_jobs(query: JobsQuery) -> Answer:
    """List your jobs, newest first"""
    with db.transaction() as session:
        own = finding.of_user(auth.current().id, query.status)
        jobs = session.scalars(paging.seek(own, query, by=(Job.id,))).all()
        images = pictures.of_jobs(session, [job.id for job in jobs])
        places = eta.of_jobs(session, jobs)
        replays = finding.replays(session, jobs)

    def item(job: Job) -> JobReply:
        return _reply(Found(job, images[job.id], places.get(job.id), replayed_by=replays.get(job.id)))

    return paging.page(jobs, query, by=(Job.id,), item=item)


@bp.get("/jobs/<job_id>")
@endpoint(
    reply=JobReply,
    errors=(NotFound,),
    headers={
        "Prefer": "`wait=30`: hold the answer until the job ends, for so many seconds (1 to 60) at most."
    },
)
def show(job_id: str) -> JobReply:
    """Show a job

    `Prefer: wait=30` holds the answer until the job ends or the seconds are over.
    """
    return _reply(finding.one(auth.current().id, ids.parse(job_id)))


def _reply(found: Found) -> JobReply:
    job = presenter.job_object(
        found.job,
        found.images,
        base_url=base_url(),
        progress=found.progress,
        place=found.place,
        replayed_by=found.replayed_by,
    )
    return JobReply.model_validate(job)


@bp.post("/jobs/<job_id>/cancel")
@endpoint(
    reply=CancelReply,
    errors=(NotFound, AlreadyFinished),
    scope="generate",
    also={202: "It runs: its worker was asked to stop at its next step"},
)
def cancel(job_id: str) -> Answer:
    """Cancel a job

    A waiting job is cancelled at once and costs nothing. A running one is stopped at its next step and costs
    the GPU seconds it has used. The job then shows `credits_consumed`, `gpu_seconds` and the `reason`. To ask
    again changes nothing; a job that ends by itself meanwhile stays as it ended (409).
    """
    job = ids.parse(job_id)
    outcome = lifecycle.cancel(auth.current().id, job)
    asked = outcome is Outcome.ASKED
    status = Status.IN_PROGRESS if asked else Status.CANCELLED
    return Answer(CancelReply(job_id=str(job), status=status), status=202 if asked else 200)


@bp.get("/jobs/<job_id>/events")
@endpoint(
    errors=(NotFound,),
    media_type="text/event-stream",
    also={204: "The event in `Last-Event-ID` was the last one"},
    headers={"Last-Event-ID": "Resume after this event."},
)
def stream(job_id: str) -> Response:
    """Follow a job (server-sent events)

    `status`, `progress`, `completed`, `failed`; `Last-Event-ID` resumes without a gap.
    """
    # The ASGI front streams; a bare WSGI server sends what there is, and EventSource comes back for more.
    job = finding.one(auth.current().id, ids.parse(job_id)).job
    after = position(request.headers.get("Last-Event-ID"))
    told = events.read(job.id, after)
    if after == events.START:
        told.insert(0, events.first(str(job.id), int(str(job.parameters["steps"]))))
    frames = (f"id: {it.id}\nevent: {it.type}\ndata: {it.json()}\n\n" for it in told)
    text = "retry: 1000\n\n" + "".join(frames)
    return Response(text, mimetype="text/event-stream", headers={"Cache-Control": "no-cache"})


@bp.get("/queues")
@endpoint(reply=QueuesReply)
def list_queues() -> QueuesReply:
    """Show the queues"""
    items = [
        QueueReply(
            tier=queue.tier,
            state=tiers.known(queue.tier).value,
            waiting=queue.waiting,
            running=queue.running,
            eta_seconds=WaitReply(p50=queue.wait.p50, p90=queue.wait.p90),
        )
        for queue in queues.snapshot()
    ]
    return QueuesReply(items=items)
