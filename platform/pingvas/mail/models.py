"""Table of the outbox."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from pingvas import ids
from pingvas.db import Base

IS_OPEN = "sent_at IS NULL AND gave_up_at IS NULL"


class Mail(Base):
    """A mail to send; it holds no secret: those are made when it goes out (`mail.PREPARE`).

    `send_after` moves on with each attempt, so that one whose sender died is sent by another.
    """

    __tablename__ = "mails"
    __table_args__ = (
        CheckConstraint("language IN ('en', 'ko')", name="language"),
        Index("ix_mails_open", "send_after", postgresql_where=IS_OPEN),
        Index(None, "user_id"),
        Index(None, "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=ids.new)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    recipient: Mapped[str] = mapped_column(String(254))
    language: Mapped[str] = mapped_column(String(2))
    template: Mapped[str] = mapped_column(String(64))
    values: Mapped[dict[str, object]] = mapped_column(JSONB)
    key: Mapped[str | None] = mapped_column(String(200), unique=True)
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0)
    created_at: Mapped[datetime]
    send_after: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    gave_up_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
