"""Who may call, and the row that each call leaves behind."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

import psycopg
from flask import Response, request
from sqlalchemy.exc import SQLAlchemyError

from pingvas import audit, db
from pingvas.errors import Forbidden, PingvasError
from pingvas.web import auth, request_id
from pingvas.web.api import Blueprint

TAG = "Admin"
PREFIX = "/api/v1/admin"
FORBIDDEN = (Forbidden,)
Role = Literal["admin", "operator"]

_TEXT_LIMIT = 200


def blueprint(name: str) -> Blueprint:
    """Return a blueprint of admin calls."""
    return Blueprint(f"admin_{name}", tag=TAG, url_prefix=PREFIX)


def staff(
    action: str, *roles: Role, step_up: bool = False
) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    """Open a view to these roles; stands above `endpoint`, so that a replayed answer is checked as well.

    What the view records itself in its unit of work is its row; for a read, or a call that was refused, one
    named `action` is written. Somebody who may not call at all leaves a line in the log instead.

    Args:
        action: name in the trail, such as `users.list`.
        roles: who may call; an admin's sign-in must have proved a second factor.
        step_up: the second factor must have been proved again a short while ago.
    """

    def decorate(view: Callable[..., Response]) -> Callable[..., Response]:
        @wraps(view)
        def wrapper(**path: Any) -> Response:
            principal = auth.current()
            auth.check_role(principal, *roles)
            if step_up:
                auth.check_stepped_up(principal)
            with (
                db.acting_as_operator(),
                audit.coming_from(request_id.current(), request.remote_addr) as origin,
            ):
                try:
                    response = view(**path)
                except (PingvasError, SQLAlchemyError, psycopg.Error) as error:
                    _record(action, getattr(error, "status", 500), getattr(error, "code", "INTERNAL"))
                    raise
                if not origin.entries:
                    _record(action, response.status_code)
                return response

        return wrapper

    return decorate


def actor() -> str:
    """Return who asks, as the trail names them."""
    return f"user:{auth.current().id}"


def _record(action: str, status: int, code: str | None = None) -> None:
    query = _clean(request.query_string.decode("latin-1"))
    came_to: dict[str, object] = {"method": request.method, "query": query, "status": status}
    if code is not None:
        came_to["code"] = code
    with db.transaction() as session:
        audit.record(session, actor(), action, _clean(request.path), before={}, after=came_to)


def _clean(text: str) -> str:
    """Return text as the database takes it, and no longer than a line."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")[:_TEXT_LIMIT]
