"""`Idempotency-Key`: a request that is sent again gets the first answer again, and is done once.

The answer is stored in the transaction that did the work, so a crash leaves both or neither. An error is
not stored: its transaction wrote nothing.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from flask import Request, Response
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from pingvas import clock, db, settings
from pingvas.errors import IdempotencyMismatch, Invalid, RequestInFlight
from pingvas.web import parsing
from pingvas.web.models import IdempotencyKey

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_KEY = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,253}[\x21-\x7e]|[\x21-\x7e]")
_KEPT_HEADERS = ("Content-Type", "Location", "Link")


@dataclass(frozen=True)
class Rendered:
    """A response; `replay` is the body to store instead of its own."""

    response: Response
    replay: bytes | None = None


def once(user_id: UUID, request: Request, run: Callable[[], Rendered]) -> Response:
    """Return the stored answer to this request, or `run` it and store its answer; without a key just run it.

    Raises:
        Invalid: the key is longer than 255 characters or not printable ASCII.
        IdempotencyMismatch: the key came with another request before.
        RequestInFlight: the first request with this key is not finished.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return run().response
    if not _KEY.fullmatch(key):
        raise Invalid(f"{HEADER} must be 1 to 255 printable ASCII characters")
    digest = _digest(request)
    with db.transaction() as session:
        _lock(session, user_id, key)
        kept = _find(session, user_id, key)
        if kept is not None:
            return _replay(kept, digest)
        rendered = run()
        _store(session, IdempotencyKey(user_id=user_id, key=key, request_hash=digest), rendered)
    return rendered.response


def expire(limit: int = 1_000) -> int:
    """Delete at most `limit` answers that are no longer replayed; return how many there were."""
    columns = (IdempotencyKey.user_id, IdempotencyKey.key)
    old = (
        select(*columns)
        .where(IdempotencyKey.created_at < _oldest())
        .order_by(IdempotencyKey.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    with db.transaction() as session:
        gone = session.execute(delete(IdempotencyKey).where(tuple_(*columns).in_(old)).returning(columns[0]))
        return len(gone.all())


def _digest(request: Request) -> bytes:
    head, body = f"{request.method} {request.full_path}\n".encode(), parsing.raw(request)
    with suppress(ValueError, RecursionError):  # the same for a client that writes its JSON anew
        body = json.dumps(json.loads(body), sort_keys=True).encode()
    return hashlib.sha256(head + body).digest()


def _lock(session: Session, user_id: UUID, key: str) -> None:
    # Held until the commit, so whoever gets it next sees the stored answer.
    number = func.hashtextextended(f"idempotency:{user_id}:{key}", 0)
    if not session.scalar(select(func.pg_try_advisory_xact_lock(number))):
        raise RequestInFlight


def _find(session: Session, user_id: UUID, key: str) -> IdempotencyKey | None:
    kept = session.get(IdempotencyKey, (user_id, key))
    if kept is not None and kept.created_at < _oldest():
        session.delete(kept)
        session.flush()
        return None
    return kept


def _oldest() -> datetime:
    return clock.now() - timedelta(seconds=settings.get().idempotency_seconds)


def _replay(kept: IdempotencyKey, digest: bytes) -> Response:
    if kept.request_hash != digest:
        raise IdempotencyMismatch
    response = Response(kept.body, status=kept.status, headers=kept.headers)
    response.headers[REPLAYED] = "true"
    return response


def _store(session: Session, row: IdempotencyKey, rendered: Rendered) -> None:
    response = rendered.response
    row.status = response.status_code
    row.headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    row.body = rendered.replay if rendered.replay is not None else response.get_data()
    session.add(row)
