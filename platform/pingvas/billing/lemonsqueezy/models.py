"""Table of webhooks, as they came."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, Integer, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from pingvas import ids
from pingvas.db import Base


class WebhookEvent(Base):
    """A signed webhook. The body's hash makes the same one unique, however often it is sent.

    `outcome` says what came of it once `handled_at` is set; until then `problem` says why not, and it is
    tried again at `try_at`.
    """

    __tablename__ = "webhook_events"
    __table_args__ = (Index("ix_webhook_events_due", "try_at", "id", postgresql_where="handled_at IS NULL"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=ids.new)
    body_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime]
    try_at: Mapped[datetime]
    tries: Mapped[int] = mapped_column(Integer, default=0)
    handled_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(Text)
    problem: Mapped[str | None] = mapped_column(Text)
