"""Beat is killed: a standby's ticks go on; without one, work waits until beat is back."""

import time
from typing import Any

from beat_schedule import periods
from tests.conftest import Stack
from tests.flows.conftest import Customer

SWEEP = "tasks.control.sweep"
_MOST_SECONDS = 60


def wait_for_sweeps(stack: Stack, more: int) -> None:
    wanted, deadline = stack.runs()[SWEEP] + more, time.monotonic() + _MOST_SECONDS
    while stack.runs()[SWEEP] < wanted:
        assert time.monotonic() < deadline, stack.runs()
        time.sleep(0.1)


def test_a_standby_rings_when_beat_is_killed(stack: Any, customer: Customer) -> None:
    wait_for_sweeps(stack, 1)
    stack.start_beat("standby")
    stack.kill("beat")
    wait_for_sweeps(stack, 3)  # more than the one tick that may have been on its way
    stack.kill("standby")
    silent = stack.runs()[SWEEP]
    job_id = customer.generate()["job_id"]
    assert customer.finished(job_id)["status"] == "completed"  # whoever is rung at once needs no beat
    assert stack.runs()[SWEEP] <= silent + 1
    stack.start_beat()
    wait_for_sweeps(stack, 3)
    assert stack.problems() == {}


def test_beat_says_which_tasks_it_expects(stack: Any) -> None:
    wait_for_sweeps(stack, 1)
    assert stack.runs().keys() == periods.keys()
