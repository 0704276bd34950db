"""Request and reply models of generation, and their bounds."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from pingvas.jobs.submit import MAX_SEED, Order
from pingvas.web.api import Body, Reply
from pingvas.web.paging import PageQuery

MAX_PROMPT = 2_000
MAX_SIDE = 4_096
MAX_BATCH = 100


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT), AfterValidator(_not_blank)]
JobStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled"]
Side = Annotated[int, Field(ge=64, le=MAX_SIDE)]


class _Wishes(Body):
    """What can be said beside the prompt; the model's catalogue entry gives what is not."""

    negative_prompt: str = Field("", max_length=MAX_PROMPT)
    model: str = Field("tiny", min_length=1, max_length=64)
    width: Side | None = Field(None, description="Pixels; a multiple of the model's `side_multiple`.")
    height: Side | None = Field(None, description="Pixels; a multiple of the model's `side_multiple`.")
    steps: int | None = Field(None, ge=1, le=150, description="Denoising steps.")
    cfg_scale: float | None = Field(None, ge=0, le=30, description="Guidance; 1 and below turn it off.")
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="Picture i uses seed + i; drawn when absent."
    )
    scheduler: str | None = Field(None, min_length=1, max_length=32, description="The sampler.")
    num_images: int = Field(1, ge=1, le=8)


class GenerateBody(_Wishes):
    """What to draw. Only `prompt` is required; the model's catalogue entry gives the rest."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "prompt": "a red circle on a blue background",
                "negative_prompt": "",
                "model": "tiny",
                "width": 128,
                "height": 128,
                "steps": 12,
                "cfg_scale": 4.0,
                "seed": 42,
                "scheduler": "dpmpp_2m",
                "num_images": 1,
                "priority": "interactive",
            }
        }
    )

    prompt: Prompt
    priority: Literal["interactive", "batch"] = "interactive"

    def order(self) -> Order:
        """Return the body as the domain's order."""
        return Order(**vars(self))


class BatchBody(_Wishes):
    """Many prompts drawn alike: a job for each."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"prompts": ["a red circle", "a blue star"], "model": "tiny"}}
    )

    prompts: list[Prompt] = Field(min_length=1, max_length=MAX_BATCH)
    priority: Literal["interactive", "batch"] = "batch"

    def orders(self) -> list[Order]:
        """Return an order for each prompt."""
        shared = {name: value for name, value in vars(self).items() if name != "prompts"}
        return [Order(prompt=prompt, **shared) for prompt in self.prompts]


class Links(Reply):
    """Where to go from here."""

    self: str
    cancel: str
    events: str


class JobAccepted(Reply):
    """An accepted job; `estimated_credits` is the most it can cost."""

    job_id: str
    status: JobStatus
    estimated_credits: int
    estimated_wait_seconds: int
    links: Links


class BatchAccepted(Reply):
    """Accepted jobs in the order of their prompts; `estimated_credits` is the most they can cost together."""

    jobs: list[JobAccepted]
    estimated_credits: int
    estimated_wait_seconds: int


class WaitReply(Reply):
    """Seconds: median and 90th percentile."""

    p50: float
    p90: float


class QuoteReply(Reply):
    """`credits` is the most it can cost; asked with an API key, `api_call_credits` is the fee of the call."""

    credits: int
    api_call_credits: int
    estimated_gpu_seconds: float
    estimated_wait_seconds: WaitReply


class ProgressReply(Reply):
    """Denoising steps done of those to do."""

    step: int
    total_steps: int
    percent: int


class JobImage(Reply):
    """A picture of a job."""

    id: str
    url: str
    thumbnail_url: str
    width: int
    height: int
    seed: int


class JobError(Reply):
    """Why a job failed."""

    code: str
    detail: str
    retryable: bool


class JobReply(Reply):
    """A job."""

    job_id: str
    kind: str
    status: JobStatus
    tier: str
    model: str
    prompt: str
    priority: str
    parameters: dict[str, Any]
    attempt: int
    position: int | None = Field(
        description="While it waits: its place in its tier, from 1. Exact near the front, later approximate."
    )
    eta_seconds: WaitReply | None = Field(
        description="While it waits: how long until it starts, from now. Null while its tier is paused."
    )
    progress: ProgressReply
    image_url: str | None
    images: list[JobImage]
    credits_quoted: int
    credits_consumed: int | None
    gpu_seconds: float | None = Field(description="Used; also by a job that was cancelled while it ran.")
    duration_seconds: int | None
    error: JobError | None
    error_message: str | None
    reason: str | None = Field(description="Why a failed or cancelled job has no pictures, in words.")
    replay_of: str | None = Field(description="The failed job that this one is ordered again for.")
    replayed_by: str | None = Field(description="Of a failed job: the one that was ordered again for it.")
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class JobsQuery(PageQuery):
    """Which jobs to list."""

    status: JobStatus | None = None


class CancelReply(Reply):
    """`status` is `cancelled`, or `in_progress` while the worker has yet to stop."""

    job_id: str
    status: str


class QueueReply(Reply):
    """One tier's queue. A paused tier starts nothing, a draining one takes no new jobs."""

    tier: str
    state: Literal["open", "paused", "draining"]
    waiting: int
    running: int
    eta_seconds: WaitReply = Field(description="Of a job that comes now; of a paused tier once it opens.")


class QueuesReply(Reply):
    """The five queues, highest tier first."""

    items: list[QueueReply]
