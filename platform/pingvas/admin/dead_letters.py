"""Routes of dead letters: list, preview and replay, drop."""

from datetime import datetime
from uuid import UUID

from pydantic import Field
from sqlalchemy import select

from pingvas import db, ids
from pingvas.admin import staff
from pingvas.admin.accounts import Tier
from pingvas.errors import Conflict, Invalid, NotFound, PingvasError
from pingvas.jobs.dead_letters import finding, replay
from pingvas.jobs.dead_letters.classes import Class
from pingvas.jobs.dead_letters.finding import Filter
from pingvas.jobs.dead_letters.models import DeadLetter, State
from pingvas.jobs.views import SUBMIT_ERRORS
from pingvas.web import auth
from pingvas.web.api import Answer, Body, Reply, endpoint
from pingvas.web.paging import Page, PageQuery, paginate
from pingvas.web.schema import Moment

bp = staff.blueprint("dead_letters")

MOST_AT_ONCE = 100


class NotOpen(Conflict):
    """The letter was dropped, or somebody is at it this moment."""

    code, title = "NOT_OPEN", "The dead letter is not open"


class LettersQuery(PageQuery):
    """Which open letters to list."""

    class_: Class | None = Field(None, alias="class")
    code: str | None = Field(None, min_length=1, max_length=64)
    tier: Tier | None = None
    before: Moment | None = Field(None, description="Failed before this moment.")


class LetterReply(Reply):
    """A job that failed for good, through no fault of its customer."""

    job_id: UUID
    class_: str = Field(serialization_alias="class")
    code: str
    tier: str
    state: str
    replays: int
    replay_after: datetime | None
    refusal: str | None
    replayed_as: UUID | None
    created_at: datetime
    closed_at: datetime | None


class ReplayedReply(Reply):
    """`replayed_as` is the new job."""

    job_id: UUID
    replayed_as: UUID


class ReplayBody(Body):
    """Which letters: by id, or by filter. Without `confirm` the answer only tells what it would mean."""

    job_ids: list[UUID] | None = Field(None, min_length=1, max_length=MOST_AT_ONCE)
    class_: Class | None = Field(None, alias="class")
    code: str | None = Field(None, min_length=1, max_length=64)
    tier: Tier | None = None
    before: Moment | None = None
    confirm: bool = False

    def filter(self) -> Filter:
        """Return the filter; `Filter()` when there is none."""
        return Filter(self.class_ and self.class_.value, self.code, self.tier, self.before)


class RefusedReply(Reply):
    """A letter that stays open, and why."""

    job_id: UUID
    code: str
    detail: str


class ReplayReply(Reply):
    """The preview: jobs, the most they would hold, customers who cannot pay it; and what was done."""

    jobs: int
    credits: int
    cannot_pay: int
    more: bool = Field(description="More match than are replayed by one call.")
    replayed: list[ReplayedReply]
    refused: list[RefusedReply]


class DroppedReply(Reply):
    """A letter that was closed."""

    job_id: UUID
    state: str


@bp.get("/dead-letters")
@staff.staff("dead_letters.list", "admin", "operator")
@endpoint(query=LettersQuery, reply=Page[LetterReply], scope="admin")
def list_letters(query: LettersQuery) -> Answer:
    """List open dead letters, newest first"""
    wanted = Filter(query.class_ and query.class_.value, query.code, query.tier, query.before)
    found = select(DeadLetter).where(*wanted.conditions())
    with db.transaction() as session:
        by = (DeadLetter.created_at, DeadLetter.job_id)
        return paginate(session, found, query, by=by, item=LetterReply.model_validate)


@bp.post("/dead-letters/<job_id>/replay")
@staff.staff("dead_letter.replay", "admin")
@endpoint(reply=ReplayedReply, scope="admin", errors=(*SUBMIT_ERRORS, NotFound, NotOpen, replay.PriceRose))
def replay_one(job_id: str) -> ReplayedReply:
    """Order a failed job again

    To ask again changes nothing and names the same new job.
    """
    return _replayed(ids.parse(job_id))


@bp.post("/dead-letters/replay")
@staff.staff("dead_letter.replay_many", "admin")
@endpoint(body=ReplayBody, reply=ReplayReply, scope="admin")
def replay_many(body: ReplayBody) -> ReplayReply:
    """Order failed jobs again, by id or by filter

    Tells how many jobs and credits it is about; with `confirm`, and after a step-up, does it. Each letter is
    replayed once, however often this is sent.
    """
    chosen = _chosen(body)
    preview = finding.preview(chosen[:MOST_AT_ONCE])
    replayed, refused = [], []
    if body.confirm:
        auth.check_stepped_up(auth.current())
        for job_id in chosen[:MOST_AT_ONCE]:
            try:
                replayed.append(_replayed(job_id))
            except PingvasError as error:
                refused.append(RefusedReply(job_id=job_id, code=error.code, detail=error.detail))
    return ReplayReply(
        jobs=preview.jobs,
        credits=preview.credits,
        cannot_pay=preview.cannot_pay,
        more=len(chosen) > MOST_AT_ONCE,
        replayed=replayed,
        refused=refused,
    )


@bp.post("/dead-letters/<job_id>/drop")
@staff.staff("dead_letter.drop", "admin")
@endpoint(reply=DroppedReply, scope="admin", errors=(NotFound, NotOpen))
def drop_one(job_id: str) -> DroppedReply:
    """Close a dead letter without a replay; nobody is charged"""
    wanted = ids.parse(job_id)
    if not replay.drop(wanted, staff.actor()) and _letter(wanted).state != State.DROPPED:
        raise NotOpen
    return DroppedReply(job_id=wanted, state=State.DROPPED.value)


def _chosen(body: ReplayBody) -> list[UUID]:
    wanted = body.filter()
    if (body.job_ids is None) == (wanted == Filter()):
        raise Invalid("Name job_ids, or say which by class, code, tier, before; not both.")
    if body.job_ids is not None:
        return body.job_ids
    return [letter.job_id for letter in finding.matching(wanted, MOST_AT_ONCE + 1)]


def _replayed(job_id: UUID) -> ReplayedReply:
    made = replay.replay(job_id, staff.actor()) or _letter(job_id).replayed_as
    if made is None:
        raise NotOpen
    return ReplayedReply(job_id=job_id, replayed_as=made)


def _letter(job_id: UUID) -> DeadLetter:
    with db.transaction() as session:
        letter = session.get(DeadLetter, job_id)
    if letter is None:
        raise NotFound(f"There is no dead letter of job {job_id}.")
    return letter
