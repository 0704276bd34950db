"""Route of the trail."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field
from sqlalchemy import select

from pingvas import db
from pingvas.admin import staff
from pingvas.audit.models import AuditEntry
from pingvas.web.api import Answer, Reply, endpoint
from pingvas.web.paging import Page, PageQuery, narrow, paginate
from pingvas.web.schema import Moment

bp = staff.blueprint("trail")


class TrailQuery(PageQuery):
    """Which entries to list."""

    actor: str | None = Field(None, min_length=1, max_length=200, description="`user:<id>`, `cli:…`, `beat`.")
    action: str | None = Field(None, min_length=1, max_length=64)
    subject: str | None = Field(None, min_length=1, max_length=200, description="`user:<id>`, `job:<id>`.")
    since: Moment | None = None


class EntryReply(Reply):
    """Who did what, how it was before and after, by which request from where."""

    id: UUID
    actor: str
    action: str
    subject: str
    before: dict[str, Any]
    after: dict[str, Any]
    request_id: str | None
    ip: str | None
    created_at: datetime


@bp.get("/audit")
@staff.staff("audit.list", "admin")
@endpoint(query=TrailQuery, reply=Page[EntryReply], scope="admin")
def list_entries(query: TrailQuery) -> Answer:
    """List the trail, newest first; nothing in it can be changed or deleted"""
    wanted = {
        AuditEntry.actor: query.actor,
        AuditEntry.action: query.action,
        AuditEntry.subject: query.subject,
    }
    found = narrow(select(AuditEntry), wanted)
    if query.since is not None:
        found = found.where(AuditEntry.created_at >= query.since)
    with db.transaction() as session:
        return paginate(session, found, query, by=(AuditEntry.id,), item=EntryReply.model_validate)
