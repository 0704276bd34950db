"""Jobs that go wrong in workers: default settings but the deadline, and an engine that draws nothing."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import text

from pingvas import db
from tests.chaos.world import World, made
from tests.recovery.orders import Customer, Row, row, started, wait
from tests.recovery.worker import AWAY, BROKEN, DEAD, FULL, HANGS, POISON

DEADLINE_SECONDS: Final = 60  # later than a lost lease is found
_WORKERS: Final = 4
_MOST_SECONDS: Final = 240.0
_PAUSES: Final = text("""
    SELECT extract(epoch FROM next.started_at - job_attempts.ended_at)::float FROM job_attempts
    JOIN job_attempts AS next ON next.job_id = job_attempts.job_id AND next.number = job_attempts.number + 1
    WHERE job_attempts.job_id = :id ORDER BY job_attempts.number""")
_BURIED: Final = text("SELECT extract(epoch FROM created_at)::float FROM dead_letters WHERE job_id = :id")
_FIRST: Final = text("SELECT extract(epoch FROM min(started_at))::float FROM job_attempts WHERE job_id = :id")


class Workers:
    """Workers that nobody starts again, and one job of each kind that goes wrong."""

    def __init__(self, world: World) -> None:
        self.world, self.customer = world, Customer(world.url)
        kinds = (BROKEN, FULL, AWAY, HANGS, DEAD)
        self.jobs = {prompt: self.customer.order(prompt=prompt, steps=1) for prompt in kinds}
        self.first = {prompt: self._running(prompt) for prompt in (HANGS, DEAD)}

    def _running(self, prompt: str) -> Row:
        return wait(self.jobs[prompt], lambda row: row.status == "in_progress")


@contextmanager
def running(_: str) -> Iterator[Workers]:
    """Start workers and order."""
    environment = {"PINGVAS_JOB_DEADLINE_SECONDS": str(DEADLINE_SECONDS)}
    with made(environment, tasks="tests.recovery.worker") as world:
        world.start_programs(_WORKERS)
        yield Workers(world)


def error_of_ours(them: Workers) -> list[float]:
    """From each failed attempt to the next."""
    return _pauses(them.jobs[BROKEN])


def out_of_memory(them: Workers) -> list[float]:
    """From each failed attempt to the next."""
    return _pauses(them.jobs[FULL])


def hanging_job(them: Workers) -> list[float]:
    """From its deadline until the job starts again."""
    return [_late(them, HANGS)]


def dead_device(them: Workers) -> list[float]:
    """From the job's deadline until it starts again elsewhere, and until its worker ends."""
    late, first = _late(them, DEAD), them.first[DEAD]
    assert them.world.dies(_name(first), _MOST_SECONDS)
    assert first.deadline is not None
    return [late, time.time() - first.deadline]


def frozen_worker(them: Workers) -> list[float]:
    """From the freezing of a worker until its job starts elsewhere; from when it goes on until it is told."""
    job_id = them.customer.order(prompt=HANGS, steps=1)
    name = _name(wait(job_id, lambda row: row.status == "in_progress"))
    frozen = time.time()
    os.killpg(them.world.pid(name), signal.SIGSTOP)
    lost = started(job_id, 2) - frozen
    before = wait(job_id, lambda row: row.status == "completed")
    awake = time.time()
    os.killpg(them.world.pid(name), signal.SIGCONT)
    while f"job {job_id} attempt 1: stale" not in them.world.folder.log(name).read_text():
        assert time.time() < awake + _MOST_SECONDS
        time.sleep(0.05)
    told = time.time() - awake
    assert row(job_id) == before
    return [lost, told]


def infrastructure(them: Workers) -> list[float]:
    """From the final failure until the replay starts."""
    job_id = them.jobs[AWAY]
    wait(job_id, lambda row: row.id != job_id and row.started is not None)
    replay = row(job_id)
    with db.transaction() as session:
        buried = session.scalar(_BURIED, {"id": job_id})
    assert replay.started is not None
    assert buried is not None
    return [replay.started - float(buried)]


def poison(them: Workers) -> list[float]:
    """From the first loss of a worker until the job is failed."""
    job_id = them.customer.order(prompt=POISON, steps=1)
    failed = wait(job_id, lambda row: row.status == "failed")
    with db.transaction() as session:
        first = session.scalar(_FIRST, {"id": job_id})
    assert failed.ended is not None
    assert first is not None
    return [failed.ended - float(first)]


def _name(row: Row) -> str:
    """Return the name of a job's worker among the world's programs."""
    return str(row.worker).partition("@")[0]


def _pauses(job_id: str) -> list[float]:
    wait(job_id, lambda row: row.status == "failed")
    with db.transaction() as session:
        return [float(seconds) for seconds in session.scalars(_PAUSES, {"id": job_id})]


def _late(them: Workers, prompt: str) -> float:
    deadline = them.first[prompt].deadline
    assert deadline is not None
    return started(them.jobs[prompt], 2) - deadline
