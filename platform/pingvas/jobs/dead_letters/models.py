"""Tables of failed attempts and of jobs that failed for good through no fault of the customer."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from pingvas.db import Base


class State(StrEnum):
    """A dead letter is open until it is replayed or dropped; both are final."""

    OPEN = "open"
    REPLAYED = "replayed"
    DROPPED = "dropped"


class JobAttempt(Base):
    """One attempt that failed. Operators see it all; customers see the job's code and text only."""

    __tablename__ = "job_attempts"
    __table_args__ = (Index("ix_job_attempts_ended_at", "ended_at"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    worker: Mapped[str | None] = mapped_column(String(200))
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime]
    code: Mapped[str] = mapped_column(String(64))
    traceback: Mapped[str] = mapped_column(Text)


class DeadLetter(Base):
    """A job that failed for good; by its key a job has one at most.

    A replay is a new job, named by `replayed_as`: a job that has ended stays ended, for its listeners and in
    the books. `replays` counts those that led here; `replay_after` is when beat makes the next, null: never.
    `refusal` is why the last replay was refused.
    """

    __tablename__ = "dead_letters"
    __table_args__ = (
        CheckConstraint("class IN ('poison','resource','infrastructure','ours')", name="class"),
        CheckConstraint("state IN ('open','replayed','dropped')", name="state"),
        CheckConstraint("(state = 'replayed') = (replayed_as IS NOT NULL)", name="replayed_as"),
        Index("ix_dead_letters_open", "created_at", postgresql_where="state = 'open'"),
        Index("ix_dead_letters_due", "replay_after", postgresql_where="state = 'open'"),
        Index("ix_dead_letters_closed", "closed_at", postgresql_where="state <> 'open'"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    class_: Mapped[str] = mapped_column("class", String(16))
    code: Mapped[str] = mapped_column(String(64))
    tier: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), default=State.OPEN.value)
    replays: Mapped[int] = mapped_column(Integer, default=0)
    replay_after: Mapped[datetime | None]
    refusal: Mapped[str | None] = mapped_column(Text)
    replayed_as: Mapped[UUID | None] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
