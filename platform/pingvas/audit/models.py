"""Table of operators' acts; a trigger refuses to change or delete its rows."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from pingvas import ids
from pingvas.db import Base


class AuditEntry(Base):
    """One act on a `subject`, such as `job:<id>`; `before` and `after` say what it changed.

    `request_id` and `ip` are those of the request that did it; null for an act from a terminal.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_subject", "subject"),
        Index("ix_audit_log_actor_id", "actor", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=ids.new)
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(200))
    before: Mapped[dict[str, object]] = mapped_column(JSONB)
    after: Mapped[dict[str, object]] = mapped_column(JSONB)
    request_id: Mapped[str | None] = mapped_column(String(64))
    ip: Mapped[str | None] = mapped_column(String(45))
    created_at: Mapped[datetime]
