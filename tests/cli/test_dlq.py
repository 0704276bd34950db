"""`pingvas dlq` and what `pingvas doctor` says of rows, as operators type them."""

import getpass
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from beat_schedule import periods
from pingvas import beats, db
from pingvas.accounts.register import register
from pingvas.cli import cli, stuck
from pingvas.jobs.lifecycle import Failure
from tests.cli.conftest import Run
from tests.jobs.dead_letters.conftest import failed, letter, lose_worker
from tests.jobs.test_lifecycle import purge, spendable, submitted


@pytest.fixture
def user_id(clean_db: None) -> UUID:
    purge()
    return register("artist@example.com", "correct horse battery").id


def state(job_id: UUID) -> str:
    found = letter(job_id)
    assert found is not None
    return found.state


def dlq(*arguments: str) -> Result:
    """Run the command in this process: each of its own takes a second to start."""
    return CliRunner().invoke(cli, ["dlq", *arguments])


def test_list_show_and_replay_by_id(pingvas: Run, user_id: UUID) -> None:
    try:
        raise RuntimeError("the bucket is gone")
    except RuntimeError as error:
        job_id = failed(user_id, Failure("STORE_UNAVAILABLE", "The store is away.", True, error))
    listed = pingvas("dlq", "list", "--class", "infrastructure").stdout
    assert str(job_id) in listed
    assert str(job_id) not in dlq("list", "--tier", "pro").stdout
    shown = dlq("show", str(job_id)).stdout
    assert "the customer reads: The store is away." in shown
    assert shown.count("RuntimeError: the bucket is gone") == 3
    done = dlq("replay", str(job_id))
    assert (done.exit_code, state(job_id)) == (0, "replayed")
    assert spendable(user_id) == 90
    assert dlq("replay", str(job_id)).stdout == f"{job_id} has no open dead letter\n"
    assert f"{getpass.getuser()}@" in dlq("show", str(job_id)).stdout
    assert spendable(user_id) == 90


def test_a_filter_only_shows_what_would_be_done(user_id: UUID) -> None:
    jobs = [failed(user_id) for _ in range(2)]
    done = dlq("replay", "--code", "STORE_UNAVAILABLE")
    assert done.stdout == (
        "2 jobs would be replayed and 20 credits held.\nNothing was done yet; to do it: --yes\n"
    )
    assert dlq("drop", "--before", "2020-01-01").stdout.startswith("0 dead letters would")
    assert [state(job_id) for job_id in jobs] == ["open", "open"]
    assert dlq("drop", "--class", "infrastructure", "--yes").exit_code == 0
    assert [state(job_id) for job_id in jobs] == ["dropped", "dropped"]
    assert spendable(user_id) == 100


def test_a_customer_who_cannot_pay_is_refused_in_one_line(user_id: UUID) -> None:
    job_id = failed(user_id)
    with db.transaction() as session:
        session.execute(text("UPDATE wallets SET monthly = 3"))
    done = dlq("replay", str(job_id))
    assert done.exit_code == 1
    assert done.stderr == f"! {job_id}: refused: This needs 10 credits and 3 are available.\n"
    assert state(job_id) == "open"


def test_neither_or_both_of_ids_and_filter_is_a_mistake(user_id: UUID) -> None:
    assert dlq("drop", "--yes").exit_code == 2
    assert dlq("drop", str(user_id), "--tier", "free").exit_code == 2
    assert dlq("show", str(user_id)).stderr == f"There is no dead letter of job {user_id}.\n"


def found() -> dict[str, tuple[str, str]]:
    return {name: (check().state, check().text) for name, check in stuck.checks()}


def test_doctor_says_what_is_stuck(user_id: UUID) -> None:
    assert {state for state, _ in found().values()} == {"ok", "note"}  # no task has run yet
    job_id = submitted(user_id)
    lose_worker(job_id, "worker-1")
    lose_worker(job_id, "worker-2")
    beats.once("tasks.control.sweep", 1.0, lambda: None)
    assert found()["dead letters"] == ("note", "open: 1 poison")
    assert found()["beat"] == ("ok", "sweep done 0 s ago (each 1 s)")
    with db.transaction() as session:
        session.execute(text("UPDATE beat_runs SET finished_at = finished_at - interval '1 hour'"))
        session.execute(text("UPDATE wallets SET held = 1"))
    assert found()["beat"] == ("wrong", "sweep done 60 min ago (each 1 s, late)")
    assert found()["books"][0] == "wrong"
    assert "held is 1, entries say 0" in found()["books"][1]


def test_doctor_tells_the_lag_of_each_task_and_of_one_that_never_ran(clean_db: None) -> None:
    beats.expect(periods)
    beats.once("tasks.control.sweep", 1.0, lambda: None)
    state, told = found()["beat"]
    assert state == "ok"
    assert [part.split()[0] for part in told.split("; ")] == sorted(map(name_of, periods))
    assert "sweep done 0 s ago (each 1 s)" in told
    assert "reconcile expected for 0 s and never begun (each 60 min)" in told
    with db.transaction() as session:
        session.execute(text("UPDATE beat_runs SET started_at = started_at - interval '3 hours'"))
    beats.expect(periods)  # another beat starts, and nothing is forgotten
    state, told = found()["beat"]
    assert state == "wrong"
    assert "reconcile expected for 3 h and never begun (each 60 min, late)" in told
    assert told.endswith("sweep done 0 s ago (each 1 s)")


def name_of(task: str) -> str:
    return task.rpartition(".")[2]
