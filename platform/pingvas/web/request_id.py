"""`X-Request-Id`: one name for a request in its answer, in the log and in what it causes."""

import logging
import random
import re
from contextvars import ContextVar

from flask import Flask, Response, request

HEADER = "X-Request-Id"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="-")


class LogFilter(logging.Filter):
    """Gives every record `request_id`, for a handler's format; `-` outside a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id; never drop a record."""
        record.request_id = _current.get()
        return True


def current() -> str:
    """Return the id of the request in hand, or `-`."""
    return _current.get()


def init_app(app: Flask) -> None:
    """Take the id that the client sent if it is sane, else make one, and send it back."""

    @app.before_request
    def begin() -> None:
        given = request.headers.get(HEADER, "")
        _current.set(given if _SANE.fullmatch(given) else f"{random.getrandbits(96):024x}")

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers.add(HEADER, _current.get())
        return response

    @app.teardown_request
    def end(error: BaseException | None) -> None:
        _current.set("-")
