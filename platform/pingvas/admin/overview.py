"""Routes that show the whole at a glance: numbers, and whether the books balance."""

from datetime import timedelta

from sqlalchemy import func, select

from pingvas import beats, clock, db, ids, workers
from pingvas.accounts.models import User
from pingvas.admin import staff
from pingvas.billing import reconcile
from pingvas.jobs import queues, tiers
from pingvas.jobs.dead_letters import finding
from pingvas.jobs.models import Job
from pingvas.web.api import Reply, endpoint

bp = staff.blueprint("overview")

DAY = timedelta(days=1)
MOST_LINES = 100


class QueueStats(Reply):
    """One tier's queue, in jobs; `eta_seconds` is the median wait of a new one."""

    tier: str
    state: str
    waiting: int
    running: int
    eta_seconds: float


class WorkerStats(Reply):
    """A GPU worker that is there."""

    name: str
    tiers: list[str]
    families: list[str]
    slots: int


class BeatStats(Reply):
    """A scheduled task; `seconds` since it was last done."""

    task: str
    seconds: float
    late: bool
    error: str | None


class Stats(Reply):
    """The platform now; `jobs`, `credits` and `gpu_seconds` are of jobs made in the last 24 hours."""

    users: dict[str, int]
    suspended: int
    jobs: dict[str, int]
    credits: int
    gpu_seconds: float
    queues: list[QueueStats]
    workers: list[WorkerStats]
    dead_letters: dict[str, int]
    beat: list[BeatStats]


class Books(Reply):
    """`problems` by check: at most a hundred lines each; empty when the books are right."""

    ok: bool
    problems: dict[str, list[str]]


@bp.get("/stats")
@staff.staff("stats.show", "admin", "operator")
@endpoint(reply=Stats, scope="admin")
def stats() -> Stats:
    """Show users, jobs, queues, workers, dead letters and scheduled tasks"""
    users, suspended = _users()
    jobs = _jobs()
    return Stats(
        users=users,
        suspended=suspended,
        jobs={status: count for status, count, _, _ in jobs},
        credits=sum(credits for _, _, credits, _ in jobs),
        gpu_seconds=round(sum(seconds for *_, seconds in jobs), 3),
        queues=[_queue(queue) for queue in queues.snapshot()],
        workers=[
            WorkerStats(name=it.name, tiers=sorted(it.tiers), families=sorted(it.families), slots=it.slots)
            for it in workers.live()
        ],
        dead_letters={class_.value: count for class_, count in finding.by_class().items()},
        beat=[
            BeatStats(task=lag.task, seconds=lag.seconds, late=lag.late, error=lag.error or None)
            for lag in beats.lags()
        ],
    )


def _users() -> tuple[dict[str, int], int]:
    by_tier = select(User.tier, func.count()).group_by(User.tier)
    gone = select(func.count()).where(User.suspended_at.is_not(None))
    with db.transaction() as session:
        return {row[0]: int(row[1]) for row in session.execute(by_tier)}, int(session.scalar(gone) or 0)


def _jobs() -> list[tuple[str, int, int, float]]:
    since = clock.now() - DAY
    with db.transaction() as session:
        rows = session.execute(
            select(
                Job.status,
                func.count(),
                func.sum(Job.credits_consumed),
                func.sum(Job.gpu_seconds),
            )
            .where(Job.id >= ids.first_of(since))
            .group_by(Job.status)
        )
        return [(row[0], row[1], int(row[2] or 0), float(row[3] or 0)) for row in rows]


def _queue(queue: queues.TierQueue) -> QueueStats:
    return QueueStats(
        tier=queue.tier,
        state=tiers.known(queue.tier).value,
        waiting=queue.waiting,
        running=queue.running,
        eta_seconds=queue.wait.p50,
    )


@bp.get("/reconcile")
@staff.staff("reconcile.run", "admin")
@endpoint(reply=Books, scope="admin")
def run_reconcile() -> Books:
    """Prove the books"""
    with db.transaction() as session:
        problems = reconcile.problems(session)
    return Books(ok=not problems, problems={name: lines[:MOST_LINES] for name, lines in problems.items()})
