"""Scheduled work runs once, however many beats ring for it, and a dead run blocks nobody."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from pingvas import beats, db

pytestmark = pytest.mark.usefixtures("clean_db")

PERIOD = 100.0


def run() -> str | None:
    return beats.once("a task", PERIOD, lambda: "ran")


def let_pass(seconds: float) -> None:
    with db.transaction() as session:
        session.execute(
            text("""UPDATE beat_runs SET started_at = started_at - make_interval(secs => :seconds),
                    finished_at = finished_at - make_interval(secs => :seconds)"""),
            {"seconds": seconds},
        )


def test_the_ticks_of_two_beats_are_one_run_a_period() -> None:
    assert [run(), run()] == ["ran", None]
    let_pass(PERIOD * 0.4)
    assert run() is None
    let_pass(PERIOD * 0.6)
    assert [run(), run()] == ["ran", None]
    assert beats.once("another task", PERIOD, lambda: "ran") == "ran"


def test_ticks_at_the_same_moment_are_one_run() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sorted(map(str, pool.map(lambda _: run(), range(8)))) == ["None"] * 7 + ["ran"]


def test_a_run_that_takes_longer_than_its_period_is_not_joined_by_another() -> None:
    inside, finish = threading.Event(), threading.Event()

    def work() -> bool:
        inside.set()
        return finish.wait(30)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(beats.once, "a task", PERIOD, work)
        assert inside.wait(30)
        let_pass(10 * PERIOD)
        assert run() is None
        finish.set()
        assert first.result() is True
    let_pass(PERIOD)
    assert run() == "ran"


def test_a_run_that_is_killed_blocks_nobody() -> None:
    work = "lambda: (print(1, flush=True), sys.stdin.read())"
    code = f"import sys; from pingvas import beats; beats.once('a task', 1, {work})"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == b"1\n"
        let_pass(PERIOD)
        assert run() is None
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while run() != "ran":  # the server hears of the death when it looks at the connection
        assert time.monotonic() < deadline
    (lag,) = beats.lags()
    assert not lag.late


def test_a_task_that_is_expected_is_begun_by_its_first_tick() -> None:
    beats.expect({"a task": PERIOD})
    assert [lag.runs for lag in beats.lags()] == [0]
    assert [run(), run()] == ["ran", None]
    assert [(lag.runs, lag.late) for lag in beats.lags()] == [(1, False)]


def test_how_late_a_task_is_and_why() -> None:
    def fail() -> None:
        raise RuntimeError("no room")

    run()
    let_pass(3 * PERIOD)
    assert [lag.late for lag in beats.lags()] == [True]
    with pytest.raises(RuntimeError):
        beats.once("a task", PERIOD, fail)
    (lag,) = beats.lags()
    assert (lag.error, lag.late) == ("RuntimeError: no room", True)
    let_pass(PERIOD)
    run()
    (lag,) = beats.lags()
    assert (lag.error, lag.late) == (None, False)
