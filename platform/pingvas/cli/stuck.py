"""What `pingvas doctor` finds in the rows: what is stuck and why, and whether the books are right."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from pingvas import beats, db
from pingvas.billing import reconcile
from pingvas.billing.subscriptions.finding import doubled
from pingvas.catalog import entries
from pingvas.cli.checks import Finding
from pingvas.cli.console import duration, expected_errors, explain
from pingvas.jobs import stuck
from pingvas.jobs.dead_letters import finding as dead_letters

_LONG_WAIT_SECONDS: Final = 600.0
_SEE_BEAT: Final = "see that beat and a control worker run, and their logs"


def checks() -> Iterator[tuple[str, Callable[[], Finding]]]:
    """Return the checks with their names, for a database that is there."""
    looks = {
        "waiting jobs": waiting,
        "leases": leases,
        "bells": bells,
        "dead letters": letters,
        "beat": beat,
        "books": books,
        "subscriptions": subscriptions,
        "models": models,
    }
    for name, look in looks.items():
        yield name, partial(_asked, name, look)


def _asked(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except expected_errors() as error:
        return Finding(name, "wrong", explain(error), "see database and broker above")


def waiting() -> Finding:
    """The job of each tier that waits longest."""
    found = stuck.oldest()
    text = "; ".join(f"{one.tier} for {duration(one.seconds)}: {one.why}" for one in found) or "none waits"
    long = any(one.seconds > _LONG_WAIT_SECONDS for one in found)
    return Finding("waiting jobs", "note" if long else "ok", text, "pingvas queues" if long else "")


def leases() -> Finding:
    """Jobs of lost workers that nobody returns to their queue."""
    count = stuck.expired_leases()
    if count:
        return Finding("leases", "wrong", f"{count} ran out and no sweep has returned them", _SEE_BEAT)
    return Finding("leases", "ok", "none has run out")


def bells() -> Finding:
    """Jobs that were put on the broker long ago."""
    count = stuck.unanswered()
    if count:
        text = f"{count} jobs were rung long ago and no worker has taken them"
        return Finding("bells", "note", text, "add workers, or see that those there are take jobs")
    return Finding("bells", "ok", "none is unanswered for long")


def letters() -> Finding:
    """Jobs that failed for good and wait for an operator."""
    counts = {class_: count for class_, count in dead_letters.by_class().items() if count}
    if not counts:
        return Finding("dead letters", "ok", "none is open")
    text = ", ".join(f"{count} {class_}" for class_, count in counts.items())
    return Finding("dead letters", "note", f"open: {text}", "pingvas dlq list; then replay or drop them")


def beat() -> Finding:
    """When each scheduled task was last done; those that are late or failed the last time come first."""
    lags = beats.lags()
    if not lags:
        return Finding("beat", "note", "no beat has run yet", _SEE_BEAT)
    bad = [lag for lag in lags if lag.late or lag.error]
    told = "; ".join(map(_told, bad + [lag for lag in lags if lag not in bad]))
    return Finding("beat", "wrong" if bad else "ok", told, _SEE_BEAT if bad else "")


def _told(lag: beats.Lag) -> str:
    name, since = lag.task.rpartition(".")[2], duration(lag.seconds)
    done = f"done {since} ago" if lag.runs else f"expected for {since} and never begun"
    late = ["late"] if lag.late else []
    notes = [f"each {duration(lag.period_seconds)}", *late, *filter(None, [lag.error])]
    return f"{name} {done} ({', '.join(notes)})"


def books() -> Finding:
    """The ledger against balances, holds and jobs."""
    with db.transaction() as session:
        problems = reconcile.problems(session)
    if not problems:
        return Finding("books", "ok", "they balance")
    text = "; ".join(f"{check}: {len(found)}, the first: {found[0]}" for check, found in problems.items())
    return Finding("books", "wrong", text, "keep the logs; correct by new ledger transactions only")


def subscriptions() -> Finding:
    """Customers who pay more than once: they opened two checkouts and paid both."""
    with db.transaction() as session:
        found = doubled(session)
    if found:
        text = "; ".join(f"user {user} pays for {', '.join(ids)}" for user, ids in found.items())
        return Finding("subscriptions", "note", text, "cancel and refund all but one at the shop")
    return Finding("subscriptions", "ok", "nobody pays for two")


def models() -> Finding:
    """What can be ordered."""
    slugs = [entry.slug for entry in entries.list_entries()]
    if not slugs:
        return Finding(
            "models", "wrong", "none: nothing can be ordered", f"pingvas models add tiny {entries.BUILTIN}"
        )
    return Finding("models", "ok", ", ".join(slugs))
