"""Scheduled tasks as a worker runs them."""

import logging

import pytest
from sqlalchemy import text

from beat_schedule import beat_schedule
from pingvas import db
from pingvas.accounts.register import register
from tasks import app, control

pytestmark = pytest.mark.usefixtures("clean_db")


def test_every_tick_names_a_task_and_is_dropped_when_the_next_one_comes() -> None:
    for entry in beat_schedule.values():
        assert entry["task"] in app.tasks
        assert entry["options"] == {"queue": "control", "expires": entry["schedule"]}


@pytest.mark.parametrize("entry", beat_schedule.values(), ids=beat_schedule)
def test_a_second_beats_tick_is_not_done_again(entry: dict[str, str]) -> None:
    task = app.tasks[entry["task"]]
    assert task.apply().get() is not None
    with db.transaction() as session:  # however long that took
        session.execute(text("UPDATE beat_runs SET started_at = clock_timestamp()"))
    assert task.apply().get() is None


def test_books_that_are_wrong_call_for_help(caplog: pytest.LogCaptureFixture) -> None:
    register("artist@example.com", "correct horse battery")
    with db.transaction() as session:
        session.execute(text("UPDATE wallets SET purchased = 7"))
    with caplog.at_level(logging.CRITICAL):
        assert list(control.reconcile.apply().get()) == ["balances that differ from their entries"]
    assert "purchased is 7, entries say 0" in caplog.text
