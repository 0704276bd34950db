"""A crash at every statement: the database is as before or as after, and doing it again brings the end."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pingvas import db
from pingvas.billing import reconcile
from pingvas.jobs import dispatch
from tests.jobs.crashes import scenarios
from tests.jobs.crashes.injector import Crash, How, crashing
from tests.jobs.crashes.scenarios import Act, Customer
from tests.jobs.test_lifecycle import purge

Scenario = Callable[[Customer], Act]
State = dict[str, Any]
Judge = Callable[[State, State, State], None]
MOST_STATEMENTS = 100

_JOBS = text("""
    SELECT jobs.status, attempt, failures, credits_consumed, worker, error_code,
           cancel_requested_at IS NULL AS wanted, rung_at IS NULL AS unrung, lease_expires_at IS NULL AS free,
           run_after > clock_timestamp() AS later, replay_of IS NULL AS original,
           settled_at IS NULL AS held, captured,
           (SELECT string_agg(type || ' ' || amount, ', ' ORDER BY id) FROM ledger_transactions
            WHERE job_id = jobs.id) AS booked,
           (SELECT count(*) FROM ledger_entries JOIN ledger_transactions AS t ON t.id = transaction_id
            WHERE t.job_id = jobs.id) AS entries,
           (SELECT count(*) FROM images WHERE job_id = jobs.id) AS pictures,
           (SELECT count(*) FROM job_attempts WHERE job_id = jobs.id) AS records,
           (SELECT state || class || replays || coalesce(refusal, '') FROM dead_letters
            WHERE job_id = jobs.id) AS letter,
           (SELECT count(*) FROM audit_log WHERE subject = 'job:' || jobs.id) AS acts
    FROM jobs JOIN holds ON holds.job_id = jobs.id WHERE jobs.user_id = :user ORDER BY jobs.id""")
_REST = text("""
    SELECT monthly, purchased, held,
           (SELECT count(*) FROM ledger_transactions WHERE user_id = :user) AS booked,
           (SELECT count(*) FROM idempotency_keys WHERE user_id = :user) AS answers,
           (SELECT count(*) FROM holds WHERE user_id = :user) AS holds
    FROM wallets WHERE user_id = :user""")


def state(user_id: UUID) -> State:
    """Return all that a crash may leave half done, without what differs from run to run."""
    with db.transaction() as session:
        jobs = session.execute(_JOBS, {"user": user_id}).all()
        rest = session.execute(_REST, {"user": user_id}).one()
    return {f"job {number}": tuple(row) for number, row in enumerate(jobs)} | {"the rest": tuple(rest)}


def prove_books() -> None:
    with db.transaction() as session:
        assert reconcile.problems(session) == {}


def crashed(act: Act, at: int, how: How) -> bool:
    """Do it with a crash at the n-th statement; False when it has fewer."""
    with crashing(at, how) as injector, suppress(Crash, DBAPIError, psycopg.Error):
        act()
    return injector.fired


def crash_everywhere(scenario: Scenario, http: FlaskClient, how: How, judge: Judge) -> None:
    """Crash at each statement, look what is there, do it again; then let every job end."""
    first = scenarios.new_customer(http)
    act = scenario(first)
    before = state(first.id)
    act()
    wanted, everybody = state(first.id), [first.id]
    for at in range(1, MOST_STATEMENTS):
        who = scenarios.new_customer(http)
        everybody.append(who.id)
        act = scenario(who)
        if not crashed(act, at, how):
            assert at > 2
            break
        judge(state(who.id), before, wanted)
        prove_books()
        act()
        assert state(who.id) == wanted, f"done again after {how} at statement {at}"
    else:
        raise AssertionError("it never ends")
    scenarios.finish(everybody)
    prove_books()


def whole(found: State, before: State, after: State) -> None:
    """One transaction: all of it is there or nothing."""
    assert found in (before, after)


def in_parts(found: State, before: State, after: State) -> None:
    """A transaction for each job: each is there or not."""
    for name in found.keys() - {"the rest"}:
        assert found[name] in (before.get(name), after[name])


@pytest.fixture(autouse=True)
def _without_messages(client: FlaskClient) -> Iterator[None]:
    purge()
    yield
    dispatch.flush()
    purge()


@pytest.mark.parametrize("scenario", scenarios.WHOLE)
def test_a_process_that_dies_has_done_all_of_it_or_nothing(scenario: Scenario, client: FlaskClient) -> None:
    crash_everywhere(scenario, client, How.DEATH, whole)


@pytest.mark.parametrize("scenario", [scenarios.submits, scenarios.completes, scenarios.replays])
def test_a_connection_that_is_cut_has_done_all_of_it_or_nothing(
    scenario: Scenario, client: FlaskClient
) -> None:
    crash_everywhere(scenario, client, How.CUT, whole)


@pytest.mark.parametrize(
    ("scenario", "how"),
    [
        (scenarios.sweeps, How.DEATH),
        (scenarios.sweeps, How.CUT),
        (scenarios.replays_by_beat, How.DEATH),
        (scenarios.replays_by_beat, How.CUT),
    ],
)
def test_what_is_a_transaction_for_each_job_is_done_for_each_or_not(
    scenario: Scenario, how: How, client: FlaskClient
) -> None:
    crash_everywhere(scenario, client, how, in_parts)
