"""Job rows as they would be after a while, written at once."""

from typing import Any
from uuid import UUID

from sqlalchemy import text

from pingvas import db, ids
from pingvas.accounts.register import register

PARAMETERS = '{"width": 128, "height": 128, "steps": 10, "num_images": 1}'

_JOBS = text(f"""
    INSERT INTO jobs (id, user_id, kind, status, tier, priority, model, prompt, parameters, credits_quoted,
                      attempt, failures, run_after, rung_at, created_at, started_at, completed_at,
                      eta_p50, eta_p90)
    SELECT id, :user, 'text2image', CAST(:status AS varchar), :tier, 'interactive', :model, '',
           '{PARAMETERS}', 10, :attempt, 0,
           now(), CASE WHEN :rung THEN now() END, now() - make_interval(secs => :waited + :ran),
           CASE WHEN CAST(:status AS varchar) <> 'pending' THEN now() - make_interval(secs => :ran) END,
           CASE WHEN CAST(:status AS varchar) = 'completed' THEN now() END, :eta_p50, :eta_p90
    FROM unnest(CAST(:ids AS uuid[])) AS id""")

_PLAIN: dict[str, Any] = {
    "status": "pending",
    "tier": "free",
    "model": "tiny",
    "rung": True,
    "attempt": 0,
    "waited": 0.0,
    "ran": 0.0,
    "eta_p50": None,
    "eta_p90": None,
}


def user(name: str) -> UUID:
    """Make an account."""
    return register(f"{name}@example.com", "correct horse battery").id


def insert(user_id: UUID, count: int = 1, **values: Any) -> list[UUID]:
    """Write jobs of one user, oldest first."""
    made = [ids.new() for _ in range(count)]
    with db.transaction() as session:
        session.execute(_JOBS, {**_PLAIN, **values, "user": user_id, "ids": made})
    return made


def analyse() -> None:
    """Let the planner know the rows, so that it chooses as it would where the system has run for a while."""
    with db.transaction() as session:
        session.execute(text("ANALYZE jobs"))
