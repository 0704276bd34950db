"""Table of beat's last runs."""

from datetime import datetime

from sqlalchemy import Float, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from pingvas.db import Base


class BeatRun(Base):
    """The last run of a scheduled task; `finished_at` is of the last one that ended well.

    `error` is what the last run ended with, null: it went well or still runs.
    """

    __tablename__ = "beat_runs"

    task: Mapped[str] = mapped_column(String(100), primary_key=True)
    period_seconds: Mapped[float] = mapped_column(Float)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
