"""Route of everybody's jobs."""

from datetime import datetime
from uuid import UUID

from pydantic import Field
from sqlalchemy import select

from pingvas import db
from pingvas.admin import staff
from pingvas.admin.accounts import Tier
from pingvas.jobs.models import Job
from pingvas.jobs.schema import JobStatus
from pingvas.web.api import Answer, Reply, endpoint
from pingvas.web.paging import Page, PageQuery, narrow, paginate

bp = staff.blueprint("jobs")


class AnyJobsQuery(PageQuery):
    """Which jobs to list."""

    status: JobStatus | None = None
    tier: Tier | None = None
    model: str | None = Field(None, min_length=1, max_length=64)
    user_id: UUID | None = None


class AnyJobReply(Reply):
    """A job as operators see it."""

    job_id: UUID = Field(validation_alias="id")
    user_id: UUID
    kind: str
    status: str
    tier: str
    priority: str
    model: str
    prompt: str
    attempt: int
    failures: int
    worker: str | None
    error_code: str | None
    error_detail: str | None
    credits_quoted: int
    credits_consumed: int | None
    gpu_seconds: float | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


@bp.get("/jobs")
@staff.staff("jobs.list", "admin", "operator")
@endpoint(query=AnyJobsQuery, reply=Page[AnyJobReply], scope="admin")
def list_jobs(query: AnyJobsQuery) -> Answer:
    """List everybody's jobs, newest first"""
    wanted = {
        Job.status: query.status,
        Job.tier: query.tier,
        Job.model: query.model,
        Job.user_id: query.user_id,
    }
    found = narrow(select(Job), wanted)
    with db.transaction() as session:
        return paginate(session, found, query, by=(Job.id,), item=AnyJobReply.model_validate)
