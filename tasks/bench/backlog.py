"""What 100,000 waiting jobs do to submitting, claiming, cancelling, listing and predicting.

Each operation is timed on an almost empty table and with the backlog, in turns (A-B-B-A). The callers are
users of their own, of whom as many jobs wait in both cases.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import text

from gpu_worker.bench import tables
from pingvas import clock, db, ids
from pingvas.jobs import dispatch, eta, finding, lifecycle, queues, submit
from pingvas.jobs.models import Job
from pingvas.jobs.submit import Order
from pingvas.web import paging
from pingvas.web.paging import PageQuery
from tasks.bench import stand
from tasks.bench.post import customers

T = TypeVar("T")

WAITING = 100_000
TIMES = 60
TURNS = "ABBAABBA"
ORDER = Order(prompt="a red circle on a blue background", seed=42)

# One job in ten is on the broker, the others wait for their user's place.
BACKLOG = text("""
    INSERT INTO jobs (id, user_id, kind, status, tier, priority, model, prompt, parameters, credits_quoted,
                      attempt, failures, created_at, run_after, rung_at)
    SELECT job.id, owner.id, 'text2image', 'pending', 'studio', 'interactive', 'tiny', 'a circle',
           '{"width": 128, "height": 128, "steps": 12, "num_images": 1}', 10, 0, 0, :now, :now,
           CASE WHEN n % 10 = 0 THEN CAST(:now AS timestamptz) END
    FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS job(id, n)
    JOIN (SELECT id, row_number() OVER () AS place FROM users LIMIT :owners) AS owner
        ON owner.place = 1 + n % :owners""")
_OWNERS = 10_000


def main() -> None:
    """Print the table."""
    with stand.running():
        customers(_OWNERS + len(TURNS) * TIMES)
        with db.transaction() as session:
            rows = session.execute(text("SELECT id FROM users OFFSET :skip"), {"skip": _OWNERS}).scalars()
            users = iter(list(rows))
        found: dict[str, list[dict[str, float]]] = {"A": [], "B": []}
        for turn, before in zip(TURNS, f"A{TURNS}", strict=False):
            if turn != before:
                (_fill if turn == "B" else _empty)()
            found[turn].append(_round(users))
        _report(found["A"], found["B"])


def _fill() -> None:
    values = {"ids": [ids.new() for _ in range(WAITING)], "now": clock.now(), "owners": _OWNERS}
    with db.transaction() as session:
        session.execute(BACKLOG, values)
    _settle()


def _empty() -> None:
    with db.transaction() as session:
        session.execute(text("DELETE FROM jobs WHERE prompt = 'a circle'"))
    _settle()


def _settle() -> None:
    """Do what autovacuum does within a minute of such a change."""
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE jobs"))
    eta.snapshots.current.forget()


def _round(users: Iterator[UUID]) -> dict[str, float]:
    """Return each operation's median, in milliseconds."""
    spent: dict[str, list[float]] = {}
    for _ in range(TIMES):
        user = next(users)
        job_id = _timed(spent, "submit", _submit, user)
        other = _timed(spent, "submit", _submit, user)
        _timed(spent, "predict a wait", eta.of_tier, "studio")
        _timed(spent, "show a job, with position and wait", finding.one, user, other)
        _timed(spent, "list jobs, with position and wait", _list, user)
        held = _timed(spent, "claim", lifecycle.claim, job_id, "bench")
        assert held is not None
        _timed(spent, "cancel", lifecycle.cancel, user, other)
        _timed(spent, "fail (releases the hold, gives the place on)", _fail, held)
        _timed(spent, "count the queues (operators)", queues.snapshot)
    dispatch.flush()
    return {name: 1e3 * median(seconds) for name, seconds in spent.items()}


def _submit(user: UUID) -> UUID:
    return submit.submit(user, "studio", ORDER).job_id


def _list(user: UUID) -> object:
    with db.transaction() as session:
        jobs = session.scalars(paging.seek(finding.of_user(user), PageQuery(), by=(Job.id,))).all()
        return eta.of_jobs(session, jobs)


def _fail(held: lifecycle.Claim) -> object:
    return lifecycle.fail(held, lifecycle.Failure("BENCH", "", retryable=False))


def _timed(spent: dict[str, list[float]], name: str, act: Callable[..., T], *arguments: Any) -> T:
    start = time.perf_counter()
    done = act(*arguments)
    spent.setdefault(name, []).append(time.perf_counter() - start)
    return done


def _report(empty: list[dict[str, float]], full: list[dict[str, float]]) -> None:
    rows = []
    for name in empty[0]:
        before = median(found[name] for found in empty)
        after = median(found[name] for found in full)
        rows.append((name, f"{before:.2f} ms", f"{after:.2f} ms", f"{after / before:.2f}"))
    columns = ("", "almost empty", f"{WAITING:,} waiting", "ratio (bar <= 1.3)")
    tables.show(f"{WAITING:,} waiting jobs (wall time, medians)", columns, rows)
