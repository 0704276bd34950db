"""Routes of a user's own pictures."""

from datetime import datetime
from typing import Any, Literal

from flask import Response, redirect, request
from sqlalchemy import select

from pingvas import db, ids, settings, storage
from pingvas.errors import NotFound
from pingvas.gallery import pictures
from pingvas.gallery.models import Image
from pingvas.web import auth, paging
from pingvas.web.api import Answer, Blueprint, Query, Reply, endpoint
from pingvas.web.paging import Page, PageQuery
from pingvas.web.urls import base_url

bp = Blueprint("gallery", tag="Pictures")

ELSEWHERE = {302: "Where the bytes are, for a while", 304: "You have them (`If-None-Match`)"}
FOREVER = "private, max-age=31536000, immutable"


class ImageReply(Reply):
    """A picture and what it was made with."""

    id: str
    job_id: str
    url: str
    thumbnail_url: str
    width: int
    height: int
    seed: int
    bytes: int
    sha256: str
    model: str
    prompt: str
    parameters: dict[str, Any]
    created_at: datetime


class ThumbnailQuery(Query):
    """`size` is the longer side in pixels."""

    size: Literal["256", "512"] = "256"


@bp.get("/images")
@endpoint(query=PageQuery, reply=Page[ImageReply])
def list_images(query: PageQuery) -> Answer:
    """List your pictures, newest first"""
    own = select(Image).where(Image.user_id == auth.current().id)
    with db.transaction() as session:
        return paging.paginate(session, own, query, by=(Image.id,), item=_reply)


@bp.get("/images/<image_id>")
@endpoint(reply=ImageReply, errors=(NotFound,))
def show(image_id: str) -> ImageReply:
    """Show a picture's data"""
    return _reply(_own(image_id))


@bp.get("/images/<image_id>/content")
@endpoint(errors=(NotFound,), media_type="image/png", also=ELSEWHERE)
def content(image_id: str) -> Response:
    """Fetch a picture

    The PNG itself, or a redirect to where it can be fetched for a while.
    """
    image = _own(image_id)
    return _bytes(
        pictures.original_key(image.user_id, image.id), "image/png", f'"{image.sha256}"', f"{image.id}.png"
    )


@bp.get("/images/<image_id>/thumbnail")
@endpoint(query=ThumbnailQuery, errors=(NotFound,), media_type="image/webp", also=ELSEWHERE)
def thumbnail(image_id: str, query: ThumbnailQuery) -> Response:
    """Fetch a picture's thumbnail"""
    image = _own(image_id)
    key = pictures.thumbnail_key(image.user_id, image.id, int(query.size))
    return _bytes(key, "image/webp", f'"{image.sha256}-{query.size}"', f"{image.id}-{query.size}.webp")


def _own(image_id: str) -> Image:
    return pictures.of_user(auth.current().id, ids.parse(image_id))


def _bytes(key: str, media_type: str, etag: str, filename: str) -> Response:
    objects = storage.default()
    if url := objects.url(key, settings.get().url_seconds, filename):
        response = redirect(url, 302)
        response.headers["Cache-Control"] = "private, no-store"  # the address expires
        return response  # type: ignore[return-value]
    if request.headers.get("If-None-Match") == etag:
        return Response(status=304, headers={"ETag": etag, "Cache-Control": FOREVER})
    try:
        data = objects.get(key)
    except storage.Missing:
        raise NotFound("The picture's bytes are gone from the object store.") from None
    return Response(data, mimetype=media_type, headers={"ETag": etag, "Cache-Control": FOREVER})


def _reply(image: Image) -> ImageReply:
    url = f"{base_url()}/api/v1/images/{image.id}"
    return ImageReply(
        id=str(image.id),
        job_id=str(image.job_id),
        url=f"{url}/content",
        thumbnail_url=f"{url}/thumbnail",
        width=image.width,
        height=image.height,
        seed=image.seed,
        bytes=image.bytes,
        sha256=image.sha256,
        model=image.model,
        prompt=image.prompt,
        parameters=image.parameters,
        created_at=image.created_at,
    )
