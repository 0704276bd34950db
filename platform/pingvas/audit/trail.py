"""Writing and reading the trail."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from pingvas import clock
from pingvas.audit.models import AuditEntry


@dataclass
class Origin:
    """Where an act comes from, and how many entries it has made so far."""

    request_id: str | None
    ip: str | None
    entries: int = 0


_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


@contextmanager
def coming_from(request_id: str | None, ip: str | None) -> Iterator[Origin]:
    """Let every entry that is made in the block say which request made it, from which address."""
    origin = Origin(request_id, ip)
    token = _origin.set(origin)
    try:
        yield origin
    finally:
        _origin.reset(token)


def record(
    session: Session,
    actor: str,
    action: str,
    subject: str,
    *,
    before: Mapping[str, object],
    after: Mapping[str, object],
) -> None:
    """Write down an act in the unit of work that does it; `before` and `after` are of JSON's types.

    `actor` is `user:<id>`, `cli:<login>@<host>` or the name of a scheduled task.
    """
    origin = _origin.get()
    if origin is not None:
        origin.entries += 1
    session.add(
        AuditEntry(
            actor=actor,
            action=action,
            subject=subject,
            before=dict(before),
            after=dict(after),
            request_id=origin.request_id if origin else None,
            ip=origin.ip if origin else None,
            created_at=clock.now(),
        )
    )


def of_subject(session: Session, subject: str) -> Sequence[AuditEntry]:
    """Return what was done to a subject, the oldest first."""
    query = select(AuditEntry).where(AuditEntry.subject == subject).order_by(AuditEntry.id)
    return session.scalars(query).all()
