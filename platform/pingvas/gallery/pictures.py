"""Pictures between the worker, the object store and their rows."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from pingvas import clock, db, storage
from pingvas.errors import NotFound
from pingvas.gallery.models import Image

THUMBNAIL_SIDES = (256, 512)


class Encoded(Protocol):
    """What the engine returns for a picture: PNG bytes, and WEBP bytes by the longer side in pixels."""

    @property
    def png(self) -> bytes: ...
    @property
    def thumbnails(self) -> Mapping[int, bytes]: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Stored:
    """A picture whose bytes are in the object store and whose row is not written yet."""

    id: UUID
    width: int
    height: int
    seed: int
    bytes: int
    sha256: str


def original_key(user_id: UUID, image_id: UUID) -> str:
    """Return the object key of the PNG."""
    return f"images/{user_id}/{image_id}/original.png"


def thumbnail_key(user_id: UUID, image_id: UUID, side: int) -> str:
    """Return the object key of a WEBP thumbnail; `side` is one of THUMBNAIL_SIDES."""
    return f"images/{user_id}/{image_id}/{side}.webp"


def store(user_id: UUID, image_id: UUID, picture: Encoded) -> Stored:
    """Put a picture and its thumbnails into the object store. No transaction may be open meanwhile.

    Who tries again takes the same id, and leaves nothing behind of the first try.

    Raises:
        Unavailable: the object store cannot be written.
    """
    objects = storage.default()
    objects.put(original_key(user_id, image_id), picture.png, "image/png")
    for side, data in picture.thumbnails.items():
        objects.put(thumbnail_key(user_id, image_id, side), data, "image/webp")
    digest = hashlib.sha256(picture.png).hexdigest()
    return Stored(image_id, picture.width, picture.height, picture.seed, len(picture.png), digest)


def discard(user_id: UUID, image_ids: Sequence[UUID]) -> None:
    """Delete the bytes of those pictures that have no row, as far as they are there.

    A commit whose answer was lost may have given them one: the rows are asked, not the caller.
    """
    objects = storage.default()
    with db.transaction() as session:
        recorded = set(session.scalars(select(Image.id).where(Image.id.in_(image_ids))))
    for image_id in set(image_ids) - recorded:
        objects.delete(original_key(user_id, image_id))
        for side in THUMBNAIL_SIDES:
            objects.delete(thumbnail_key(user_id, image_id, side))


def record(session: Session, job: Any, pictures: Sequence[Stored]) -> None:
    """Write the rows of a job's pictures, in the unit of work that completes the job."""
    rows = [
        {
            **picture.__dict__,
            "user_id": job.user_id,
            "job_id": job.id,
            "position": position,
            "model": job.model,
            "prompt": job.prompt,
            "parameters": job.parameters,
            "created_at": clock.now(),
        }
        for position, picture in enumerate(pictures)
    ]
    session.execute(insert(Image), rows)


def of_jobs(session: Session, job_ids: Sequence[UUID]) -> dict[UUID, list[Image]]:
    """Return the pictures of several jobs, each job's in order."""
    found: dict[UUID, list[Image]] = {job_id: [] for job_id in job_ids}
    if job_ids:
        query = select(Image).where(Image.job_id.in_(job_ids)).order_by(Image.job_id, Image.position)
        for image in session.scalars(query):
            found[image.job_id].append(image)
    return found


def of_user(user_id: UUID, image_id: UUID) -> Image:
    """Return a user's own picture.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    with db.transaction() as session:
        image = session.get(Image, image_id)
    if image is None or image.user_id != user_id:
        raise NotFound
    return image
