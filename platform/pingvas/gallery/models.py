"""Table of pictures."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from pingvas import ids
from pingvas.db import Base


class Image(Base):
    """One picture of a job; its bytes lie at `pictures.original_key` and `pictures.thumbnail_key`."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("job_id", "position"), Index("ix_images_user_id_id", "user_id", "id"))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=ids.new)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    job_id: Mapped[UUID]
    position: Mapped[int] = mapped_column(Integer)
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    seed: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(64))
    prompt: Mapped[str]
    parameters: Mapped[dict[str, object]] = mapped_column(JSONB)
    created_at: Mapped[datetime]
