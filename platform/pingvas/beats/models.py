"""Table of beat's last runs."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from pingvas.db import Base


class BeatRun(Base):
    """The last run of a scheduled task; `finished_at` is of the last one that ended well.

    One that has not run yet has no `runs`, and `started_at` is when beat first expected it.

    `error` is what the last run ended with, null: it went well or still runs. `seconds` is how long the last
    one took that ended, `runs` counts those that were begun and `errors` those that did not end well.
    `result` is what the last one that ended well said of itself.
    """

    __tablename__ = "beat_runs"

    task: Mapped[str] = mapped_column(String(100), primary_key=True)
    period_seconds: Mapped[float] = mapped_column(Float)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float | None] = mapped_column(Float)
    runs: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    errors: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    result: Mapped[Any] = mapped_column(JSONB, nullable=True)
