"""Table of the catalogue."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Float, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from pingvas.db import Base


class CatalogEntry(Base):
    """One model that workers can load; sides in pixels.

    `location` is a diffusers folder, a hub id, a `.safetensors` file or `builtin:<name>`.
    """

    __tablename__ = "catalog_entries"
    __table_args__ = (
        CheckConstraint("price_factor > 0", name="price_factor"),
        CheckConstraint("min_side <= default_side AND default_side <= max_side", name="sides"),
    )

    slug: Mapped[str] = mapped_column(String(64), primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    family: Mapped[str] = mapped_column(String(32))
    location: Mapped[str] = mapped_column(Text)
    min_side: Mapped[int] = mapped_column(Integer)
    max_side: Mapped[int] = mapped_column(Integer)
    default_side: Mapped[int] = mapped_column(Integer)
    side_multiple: Mapped[int] = mapped_column(Integer)
    default_steps: Mapped[int] = mapped_column(Integer)
    default_cfg_scale: Mapped[float] = mapped_column(Float)
    default_scheduler: Mapped[str] = mapped_column(String(32))
    price_factor: Mapped[float] = mapped_column(Float)
    min_tier: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
