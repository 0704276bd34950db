"""Table of walks over the object store."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from pingvas.db import Base


class StoreWalk(Base):
    """Behind which key the walk over a prefix goes on; empty: from the beginning."""

    __tablename__ = "store_walks"

    prefix: Mapped[str] = mapped_column(String(200), primary_key=True)
    after: Mapped[str] = mapped_column(String(512))
