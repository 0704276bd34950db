"""One run of a scheduled task at a time, and one per period, whoever rings for it.

A session's advisory lock keeps runs apart and goes with its connection, so one that is killed blocks nobody;
the row of the last run tells a second beat's tick from the next one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from pingvas import db

T = TypeVar("T")

_LATE_SECONDS: Final = 60.0

_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('beat:' || :task, 0))")

# Two beats that ring in turn are at most half a period apart, one way or the other.
_BEGIN = text("""
    INSERT INTO beat_runs AS last (task, period_seconds, started_at, runs)
    VALUES (:task, :period, clock_timestamp(), 1)
    ON CONFLICT (task) DO UPDATE
    SET period_seconds = excluded.period_seconds, started_at = excluded.started_at, error = NULL,
        runs = last.runs + 1
    WHERE last.runs = 0 OR last.started_at < excluded.started_at - make_interval(secs => :period / 2)""")

_EXPECT = text("""
    INSERT INTO beat_runs AS last (task, period_seconds, started_at, runs)
    VALUES (:task, :period, clock_timestamp(), 0)
    ON CONFLICT (task) DO UPDATE SET period_seconds = excluded.period_seconds
    WHERE last.period_seconds <> excluded.period_seconds""")

_END = text("""
    UPDATE beat_runs SET finished_at = clock_timestamp(), result = :result, error = NULL,
    seconds = extract(epoch FROM clock_timestamp() - started_at) WHERE task = :task""").bindparams(
    bindparam("result", type_=JSONB)
)

_FAIL = text("""
    UPDATE beat_runs SET error = :error, errors = errors + 1,
    seconds = extract(epoch FROM clock_timestamp() - started_at) WHERE task = :task""")

_LAGS = text("""
    SELECT task, period_seconds, error,
           extract(epoch FROM clock_timestamp() - coalesce(finished_at, started_at))::float AS seconds,
           seconds AS took, runs, errors, result
    FROM beat_runs ORDER BY task""")


@dataclass(frozen=True)
class Lag:
    """How long ago a scheduled task last ended well, or was first begun or expected; `error` of its last run.

    `took` is the last run's length in seconds, `runs` and `errors` count all there were, and `result` is what
    the last one that ended well returned."""

    task: str
    period_seconds: float
    error: str | None
    seconds: float
    took: float | None
    runs: int
    errors: int
    result: Any

    @property
    def late(self) -> bool:
        """Whether more than one run must have been missed."""
        return self.seconds > 2 * self.period_seconds + _LATE_SECONDS


def once(task: str, period_seconds: float, work: Callable[[], T]) -> T | None:
    """Run `work` unless it runs elsewhere or has run in this period; then return None.

    What `work` returns (JSON) or raises is written down; the latter is raised.
    """
    with db.engine().connect() as pooled:
        connection = pooled.execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # closed in the end, and not given back with its lock
        if not connection.scalar(_LOCK, {"task": task}):
            return None
        if connection.execute(_BEGIN, {"task": task, "period": period_seconds}).rowcount == 0:
            return None
        try:
            result = work()
        except Exception as error:
            connection.execute(_FAIL, {"task": task, "error": f"{type(error).__name__}: {error}"[:1_000]})
            raise
        connection.execute(_END, {"task": task, "result": result})
        return result


def expect(periods: Mapping[str, float]) -> None:
    """Write down when each of these tasks is first expected, so that one which never runs is late too."""
    rows = [{"task": task, "period": seconds} for task, seconds in periods.items()]
    with db.transaction() as session:
        session.execute(_EXPECT, rows)


def lags() -> list[Lag]:
    """Return every scheduled task that has ever run or is expected to."""
    with db.transaction() as session:
        return [Lag(*row) for row in session.execute(_LAGS)]
