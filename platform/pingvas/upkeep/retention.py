"""Rows past their time, and how long that is. The ledger, holds, jobs and `audit_log` are kept for ever."""

from datetime import timedelta
from typing import Final

from sqlalchemy import text

from pingvas import clock, db, settings

_EXPIRED: Final = "expires_at < :yesterday"  # refused since; a day later nobody asks why

OLD: Final = {
    "refresh_tokens": _EXPIRED,
    "one_time_tokens": _EXPIRED,
    "sign_ins": _EXPIRED,
    "mails": "(sent_at IS NOT NULL OR gave_up_at IS NOT NULL) AND created_at < :history",
    "dead_letters": "state <> 'open' AND closed_at < :history",
    "job_attempts": """ended_at < :history
        AND EXISTS (SELECT FROM jobs WHERE jobs.id = job_id AND completed_at < :history)
        AND NOT EXISTS (
            SELECT FROM dead_letters WHERE dead_letters.job_id = job_attempts.job_id AND state = 'open')""",
}
"""By table, which rows go."""

# By their place in the file: a subquery of keys would make the planner read the whole table.
_DELETE: Final = """
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {table} WHERE {old} LIMIT :batch FOR UPDATE SKIP LOCKED))"""


def trim(table: str, batch: int) -> int:
    """Delete at most `batch` rows of one table of `OLD`; return how many. Locked rows are left."""
    now = clock.now()
    moments = {
        "yesterday": now - timedelta(days=1),
        "history": now - timedelta(days=settings.get().history_days),
        "batch": batch,
    }
    statement = text(_DELETE.format(table=table, old=OLD[table]))
    with db.transaction() as session:
        return int(session.execute(statement, moments).rowcount)  # type: ignore[attr-defined]
