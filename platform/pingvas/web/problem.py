"""Every error leaves as RFC 9457 `application/problem+json`; the one place that catches everything."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import psycopg
import redis.exceptions
from flask import Flask, Response
from sqlalchemy import exc
from werkzeug.exceptions import HTTPException

from pingvas import db
from pingvas.errors import (
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    PingvasError,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from pingvas.web import request_id

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_KNOWN = {
    kind.status: kind
    for kind in (Malformed, Unauthorized, Forbidden, NotFound, TooLarge, UnsupportedMedia, Invalid, TooMany)
}
_UNREACHABLE = (*db.PASSING, redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(PingvasError, render)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(exc.DataError, _refused_by_database)
    app.register_error_handler(psycopg.DataError, _refused_by_database)
    for kind in _UNREACHABLE:
        app.register_error_handler(kind, _unreachable)
    app.register_error_handler(Exception, _unexpected)


def render(error: PingvasError) -> Response:
    """Return the problem document of `error`."""
    return response(error.status, error.code, error.title, error.detail, error.headers, error.extra)


def response(
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """Return a problem document; `extra` cannot replace the standard members."""
    document = {
        "type": type_of(code),
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id.current(),
    }
    text = json.dumps({**document, **(extra or {}), **document}, default=str)
    answer = Response(text, status=status, headers=dict(headers or {}))
    answer.content_type = MEDIA_TYPE
    return answer


def type_of(code: str) -> str:
    """Return the URI that names a problem."""
    return f"urn:pingvas:problem:{code.lower().replace('_', '-')}"


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    kind = _KNOWN.get(status)
    if kind is not None:
        return response(status, kind.code, kind.title, kind.title, headers)
    code = error.name.upper().replace(" ", "_")
    return response(status, code, error.name, error.description or error.name, headers)


def _unreachable(error: Exception) -> Response:
    log.error("unreachable (request %s): %s", request_id.current(), error)
    return render(Unavailable())


def _refused_by_database(error: Exception) -> Response:
    # A value that passed the models but fits no column, such as an integer beyond 64 bits.
    said = getattr(error, "orig", error)  # SQLAlchemy's own text repeats the values
    log.warning("refused by the database (request %s): %s", request_id.current(), said)
    return render(Invalid("A value is out of range"))


def _unexpected(error: Exception) -> Response:
    log.error("unexpected error (request %s)", request_id.current(), exc_info=error)
    return render(PingvasError("Something went wrong; the request id helps us to find it"))
