"""Processes of an instance that are killed or asked to leave, under default settings."""

import signal
import subprocess
import time
from typing import Final

from sqlalchemy import text

from pingvas import db
from pingvas.cli import programs
from tests.recovery.orders import LONG, ended, row, started
from tests.recovery.up import GPU, Up

_LOSSES: Final = 4
_MOST_SECONDS: Final = 120.0
_ON_ITS_WAY: Final = 0.3  # a tick that was rung before
_BEGUN: Final = text("""
    SELECT extract(epoch FROM min(started_at))::float FROM beat_runs
    WHERE started_at > to_timestamp(:since)""")


def worker_with_a_job(up: Up) -> list[float]:
    """Kill a GPU worker with a job, at several moments between two sweeps; until the job starts again."""
    found = []
    for number in range(_LOSSES):
        job_id = up.customer.running(**LONG)
        time.sleep(number * 15 / _LOSSES)
        died = up.kill(GPU)
        found.append(started(job_id, 2) - died)
        up.customer.cancel(job_id)
    return found


def worker_asked(up: Up) -> list[float]:
    """SIGTERM to a GPU worker with a job that outlasts the grace; until the job starts again."""
    job_id = up.customer.running(**LONG)
    asked = up.signal(GPU, signal.SIGTERM)
    found = started(job_id, 2) - asked
    up.customer.cancel(job_id)
    return [found]


def worker_asked_twice(up: Up) -> list[float]:
    """The same, and SIGTERM again at once."""
    job_id = up.customer.running(**LONG)
    asked = up.signal(GPU, signal.SIGTERM)
    time.sleep(0.5)
    up.signal(GPU, signal.SIGTERM)
    found = started(job_id, 2) - asked
    up.customer.cancel(job_id)
    return [found]


def worker_drained(up: Up) -> list[float]:
    """Drain a GPU worker with a job: the job is done in the same attempt."""
    job_id = up.customer.running(prompt="a red circle", steps=100)
    up.pingvas("worker", "drain", "--all")
    ended(job_id)
    assert row(job_id).attempt == 1
    up.draw()
    return [0.0]


def second_worker(up: Up) -> list[float]:
    """Start a second worker of one name; until it has refused."""
    program = programs.gpu_worker(up.world.place)
    began = time.time()
    done = subprocess.run(
        program.argv, env=programs.environment(program), cwd=up.folder.path, capture_output=True, text=True
    )
    assert "is up already" in done.stderr, done.stderr
    return [time.time() - began]


def idle_worker(up: Up) -> list[float]:
    """Kill an idle GPU worker; until the next job is done."""
    died = up.kill(GPU)
    time.sleep(1)  # what the broker hands to a connection that has just died is lost: that is another fault
    return [up.draw() - died]


def api(up: Up) -> list[float]:
    """Kill all API processes; until the API is ready."""
    died = up.kill("api")
    while not up.serves():
        assert time.time() < died + _MOST_SECONDS
    return [time.time() - died]


def beat(up: Up) -> list[float]:
    """Kill beat; until a scheduled task is begun that it rings for."""
    return [_until_begun(up.kill("beat"))]


def control_worker(up: Up) -> list[float]:
    """Kill the control worker; until a scheduled task is begun."""
    return [_until_begun(up.kill("control-worker"))]


def _until_begun(died: float) -> float:
    """Return the seconds from a death to the first run that a tick after it began."""
    while time.time() < died + _MOST_SECONDS:
        with db.transaction() as session:
            begun = session.scalar(_BEGUN, {"since": died + _ON_ITS_WAY})
        if begun is not None:
            return float(begun) - died
        time.sleep(0.05)
    raise TimeoutError("no scheduled task is begun any more")
