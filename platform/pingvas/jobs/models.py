"""Table of jobs. `status` is written by `jobs.lifecycle` alone."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, Integer, String, Text, false
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from pingvas import ids
from pingvas.db import Base


class Status(StrEnum):
    """States of a job; the last three are final."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self in FINAL


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class TierState(Base):
    """What operators have said of a tier; a tier without a row is open.

    Paused: nothing of it is put on the broker or started. Draining: no new job is accepted, what waits runs.
    """

    __tablename__ = "tier_states"
    __table_args__ = (CheckConstraint("state IN ('open','paused','draining')", name="state"),)

    tier: Mapped[str] = mapped_column(String(16), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(String(200))


class Job(Base):
    """One request for pictures.

    `attempt` is the fencing token: a claim raises it and every later write of that worker carries it.
    `failures` counts the attempts that failed; one handed back by a leaving worker is not among them.
    `eta_p50` and `eta_p90` are the seconds until its start that were told when it was accepted.
    `run_seconds` is how long it was expected to run then.
    `replay_of` is the failed job that this one is ordered again for.
    `deadline_at` is when the present attempt must have ended; `alone`: it runs with no other in its worker.
    `rung_at` is when the job was last put on the broker; null while it waits for a free place there.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "status IN ('pending','in_progress','completed','failed','cancelled')", name="status"
        ),
        CheckConstraint("credits_consumed <= credits_quoted", name="never_above_quote"),
        Index("ix_jobs_user_id_id", "user_id", "id"),
        # Literal states: under a bound parameter the planner cannot use a partial index.
        Index("ix_jobs_pending", "tier", "id", postgresql_where="status = 'pending'"),
        Index("ix_jobs_running", "lease_expires_at", postgresql_where="status = 'in_progress'"),
        Index("ix_jobs_deadline", "deadline_at", postgresql_where="status = 'in_progress'"),
        Index("ix_jobs_completed", "completed_at", postgresql_where="status = 'completed'"),
        Index(
            "ix_jobs_unrung",
            "user_id",
            "run_after",
            postgresql_where="status = 'pending' AND rung_at IS NULL",
        ),
        Index("ix_jobs_replay_of", "replay_of", unique=True, postgresql_where="replay_of IS NOT NULL"),
        Index("ix_jobs_open", "user_id", postgresql_where="status IN ('pending', 'in_progress')"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=ids.new)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[str] = mapped_column(String(16), default="text2image")
    status: Mapped[str] = mapped_column(String(16), default=Status.PENDING.value)
    tier: Mapped[str] = mapped_column(String(16))
    priority: Mapped[str] = mapped_column(String(16))
    model: Mapped[str] = mapped_column(String(64))
    prompt: Mapped[str] = mapped_column(Text)
    parameters: Mapped[dict[str, object]] = mapped_column(JSONB)
    credits_quoted: Mapped[int] = mapped_column(BigInteger)
    eta_p50: Mapped[float | None] = mapped_column(Float)
    eta_p90: Mapped[float | None] = mapped_column(Float)
    run_seconds: Mapped[float | None] = mapped_column(Float)
    credits_consumed: Mapped[int | None] = mapped_column(BigInteger)
    gpu_seconds: Mapped[float | None] = mapped_column(Float)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    worker: Mapped[str | None] = mapped_column(String(200))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    error_retryable: Mapped[bool | None]
    run_after: Mapped[datetime]
    rung_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    alone: Mapped[bool] = mapped_column(default=False, server_default=false())
    cancel_requested_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    replay_of: Mapped[UUID | None]
