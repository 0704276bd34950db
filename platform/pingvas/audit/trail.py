"""Writing and reading the trail."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from pingvas import clock
from pingvas.audit.models import AuditEntry


def record(
    session: Session,
    actor: str,
    action: str,
    subject: str,
    *,
    before: Mapping[str, object],
    after: Mapping[str, object],
) -> None:
    """Write down an act in the unit of work that does it; `before` and `after` are of JSON's types."""
    session.add(
        AuditEntry(
            actor=actor,
            action=action,
            subject=subject,
            before=dict(before),
            after=dict(after),
            created_at=clock.now(),
        )
    )


def of_subject(session: Session, subject: str) -> Sequence[AuditEntry]:
    """Return what was done to a subject, the oldest first."""
    query = select(AuditEntry).where(AuditEntry.subject == subject).order_by(AuditEntry.id)
    return session.scalars(query).all()
