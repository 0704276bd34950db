"""Scheduled work that needs no GPU: each task runs once a period, however many beats ring for it."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from beat_schedule import periods
from pingvas import beats, db, mail
from pingvas.billing import reconcile as books
from pingvas.billing import resets
from pingvas.billing.lemonsqueezy import inbox, overdue
from pingvas.jobs import sweep as jobs_sweep
from pingvas.jobs.dead_letters import replay
from pingvas.upkeep import orphans, retention
from pingvas.web import idempotency
from tasks import app

log = logging.getLogger(__name__)

EXPIRED_KEYS_PER_BATCH: Final = 10_000
OLD_ROWS_PER_BATCH: Final = 2_000
_MOST_BATCHES: Final = 50


def _scheduled(work: Callable[[], Any]) -> Any:
    name = f"tasks.control.{work.__name__}"

    def run() -> Any:
        return beats.once(name, periods[name], work)

    run.__doc__ = work.__doc__
    return app.task(name=name)(run)


@_scheduled
def sweep() -> dict[str, Any]:
    """Act again on rows that nobody answered for."""
    return jobs_sweep.sweep().__dict__


@_scheduled
def replay_dead_letters() -> dict[str, Any]:
    """Order again what failed through no fault of the job, when its delay has passed."""
    return replay.replay_due().__dict__


@app.task(name="tasks.control.send_mails")
def send_mails(rung: bool = False) -> int | None:
    """Deliver the outbox: on beat's tick once a period, and at once when a new mail rings."""
    if rung:
        return mail.deliver()
    name = "tasks.control.send_mails"
    return beats.once(name, periods[name], mail.deliver)


@app.task(name="tasks.control.handle_webhooks")
def handle_webhooks(rung: bool = False) -> dict[str, int] | None:
    """Do what the shop's webhooks say: on beat's tick once a period, and at once when a new one rings."""
    if rung:
        return inbox.handle_due()
    name = "tasks.control.handle_webhooks"
    return beats.once(name, periods[name], inbox.handle_due)


@_scheduled
def reset_months() -> int:
    """Begin the month of everybody whose month is over."""
    return resets.run()


@_scheduled
def read_subscriptions() -> dict[str, int]:
    """Ask the shop about subscriptions whose renewal is overdue, as when a webhook was lost."""
    return overdue.read_again()


@_scheduled
def tell_low_credits() -> int:
    """Mail whoever has less than a fifth of the month's credits left."""
    return resets.tell_low()


@_scheduled
def reconcile() -> dict[str, int]:
    """Prove the books, and call for help when they are wrong."""
    with db.transaction() as session:
        problems = books.problems(session)
    for check, found in problems.items():
        log.critical("the books are wrong: %s: %d, the first: %s", check, len(found), found[0])
    return {check: len(found) for check, found in problems.items()}


@_scheduled
def expire_idempotency_keys() -> int:
    """Forget old Idempotency-Keys; what is left over is the next run's."""
    return _in_batches(idempotency.expire, EXPIRED_KEYS_PER_BATCH)


@_scheduled
def trim_history() -> dict[str, int]:
    """Delete rows past their time: expired sign-ins, failed attempts and dead letters of long ago."""
    return {table: _in_batches(partial(retention.trim, table), OLD_ROWS_PER_BATCH) for table in retention.OLD}


@_scheduled
def collect_orphans() -> dict[str, int]:
    """Delete bytes of pictures that have no row, some fifty thousand keys further in each run."""
    torn = orphans.tidy()
    pages: list[orphans.Page] = []
    while len(pages) < _MOST_BATCHES and not (pages and pages[-1].last):
        pages.append(orphans.collect())
    deleted = sum(page.deleted for page in pages)
    return {"seen": sum(page.seen for page in pages), "deleted": deleted, "torn": torn}


def _in_batches(work: Callable[[int], int], size: int) -> int:
    """Do bounded work until little is left of it, or the run has done enough; return how much was done."""
    done = 0
    for _ in range(_MOST_BATCHES):
        batch = work(size)
        done += batch
        if batch < size:
            break
    return done
