"""Webhooks are verified, stored and answered; a control task handles them afterwards, each once."""

import hashlib
import hmac
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from pingvas import clock, db, ids, settings
from pingvas.billing.lemonsqueezy.handle import NotYet, handle
from pingvas.billing.lemonsqueezy.models import WebhookEvent
from pingvas.errors import PingvasError

log = logging.getLogger(__name__)

AFTER_STORE: list[Callable[[], object]] = []
"""Called once a new webhook is committed, so that it need not wait for the next tick."""

_FIRST_RETRY_SECONDS: Final = 10
_LAST_RETRY_SECONDS: Final = 3_600
_PROBLEM_CHARACTERS: Final = 1_000


def signature(body: bytes, secret: str) -> str:
    """Return a body's signature: HMAC-SHA256 in hexadecimal.

    Source: docs.lemonsqueezy.com/help/webhooks/signing-requests.
    """
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_signed(body: bytes, given: str) -> bool:
    """Whether `given` is the body's signature; takes as long whatever it is."""
    secret = settings.get().lemonsqueezy_webhook_secret.get_secret_value()
    return hmac.compare_digest(signature(body, secret).encode(), given.encode())


def store(body: bytes) -> bool:
    """Keep a webhook for later; False when the very same one is there."""
    now = clock.now()
    row = insert(WebhookEvent).values(
        id=ids.new(), body_hash=hashlib.sha256(body).digest(), body=body, received_at=now, try_at=now, tries=0
    )
    with db.transaction() as session:
        added = db.added(session, row.on_conflict_do_nothing())
        if added:
            for hook in AFTER_STORE:
                db.after_commit(hook)
    return added


def handle_due(limit: int = 1_000) -> dict[str, int]:
    """Handle the webhooks that are due, the oldest first; return how many were handled and how many wait.

    Each time something was handled, those that waited for another one are tried again at once.
    """
    handled = waiting = 0
    pending = _unhandled(limit, due_only=True)
    while pending:
        done = [_handle_one(event_id) for event_id in pending]
        waiting = done.count(False)
        if True not in done:
            break
        handled += done.count(True)
        pending = _unhandled(limit)
    return {"handled": handled, "waiting": waiting}


def _unhandled(limit: int, *, due_only: bool = False) -> list[UUID]:
    query = select(WebhookEvent.id).where(WebhookEvent.handled_at.is_(None))
    if due_only:
        query = query.where(WebhookEvent.try_at <= clock.now())
    with db.transaction() as session:
        return list(session.scalars(query.order_by(WebhookEvent.id).limit(limit)))


def _handle_one(event_id: UUID) -> bool | None:
    """Handle a webhook: True when it is done, False when it must wait, None when somebody else has it."""
    try:
        with db.transaction() as session:
            event = _take(session, event_id)
            if event is None:
                return None
            event.outcome = handle(session, event.body)
            event.handled_at, event.problem = clock.now(), None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        _put_off(event_id, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (NotYet, PingvasError, SQLAlchemyError) as error:
        _put_off(event_id, f"{type(error).__name__}: {error}")
    else:
        return True
    return False


def _put_off(event_id: UUID, problem: str) -> None:
    with db.transaction() as session:
        event = _take(session, event_id)
        if event is not None:
            delay = min(_FIRST_RETRY_SECONDS * 2 ** min(event.tries, 20), _LAST_RETRY_SECONDS)
            event.tries += 1
            event.try_at = clock.now() + timedelta(seconds=delay)
            event.problem = problem[:_PROBLEM_CHARACTERS]
    log.warning("webhook %s waits: %s", event_id, problem)


def _take(session: Session, event_id: UUID) -> WebhookEvent | None:
    mine = select(WebhookEvent).where(WebhookEvent.id == event_id, WebhookEvent.handled_at.is_(None))
    return session.scalars(mine.with_for_update(skip_locked=True)).one_or_none()
