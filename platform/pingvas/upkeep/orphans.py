"""Bytes of pictures without a row: their worker died before it could complete, or the row was deleted.

A walk over the store's keys, page by page; where it stands is a row, so that it goes on in the next run and
begins anew when it has seen everything.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from pingvas import clock, db, settings, storage
from pingvas.gallery.models import Image
from pingvas.storage import Listed
from pingvas.upkeep.models import StoreWalk

log = logging.getLogger(__name__)

PREFIX: Final = "images/"
PAGE: Final = 1_000
_KEY: Final = re.compile(r"images/[0-9a-f-]{36}/([0-9a-f-]{36})/[^/]+")


@dataclass(frozen=True)
class Page:
    """What one page of the walk came to, in objects; `last` when nothing is behind it."""

    seen: int
    deleted: int
    last: bool


def collect(page: int = PAGE) -> Page:
    """Look at the next page of keys and delete what is old enough and has no row.

    An object is younger than its row by seconds at the most; `orphan_seconds` is far more than that. What
    does not look like a picture's key is left alone.

    Raises:
        Unavailable: the object store cannot be used; the next run goes on where this one stood.
    """
    with db.transaction() as session:
        after = session.scalar(select(StoreWalk.after).where(StoreWalk.prefix == PREFIX)) or ""
    objects = storage.default()
    found = objects.keys(PREFIX, after, page)
    orphans = _orphans(found)
    for key in orphans:
        log.warning("object %s has no row and is deleted", key)
        objects.delete(key)
    last = len(found) < page
    _go_on("" if last else found[-1].key)
    return Page(len(found), len(orphans), last)


def tidy() -> int:
    """Remove what writers of the store that died have left half written; return how much."""
    return storage.default().tidy(_oldest())


def _oldest() -> datetime:
    return clock.now() - timedelta(seconds=settings.get().orphan_seconds)


def _orphans(found: Sequence[Listed]) -> list[str]:
    oldest = _oldest()
    pictures = {
        listed.key: UUID(match[1])
        for listed in found
        if listed.modified < oldest and (match := _KEY.fullmatch(listed.key))
    }
    if not pictures:
        return []
    with db.transaction() as session:
        known = set(session.scalars(select(Image.id).where(Image.id.in_(set(pictures.values())))))
    return [key for key, image_id in pictures.items() if image_id not in known]


def _go_on(after: str) -> None:
    upsert = insert(StoreWalk).values(prefix=PREFIX, after=after)
    with db.transaction() as session:
        session.execute(upsert.on_conflict_do_update(index_elements=["prefix"], set_={"after": after}))
