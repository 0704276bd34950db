"""Jobs run together; one that is suspect waits for the others, and keeps them out."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue

import pytest

from tasks.gate import Closed, Gate


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Task:
    """A task in a thread of its own that stays inside until it is let go."""

    def __init__(self, pool: ThreadPoolExecutor, gate: Gate, *, suspect: bool = False) -> None:
        self.gate, self.suspect = gate, suspect
        self.entered, self.let_go, self.gives_up = threading.Event(), threading.Event(), False
        self.running: Queue[bool] = Queue()
        self.done: Future[None] = pool.submit(self._run)

    def _run(self) -> None:
        with self.gate.enter() as place:
            self.entered.set()
            self.running.put(place.alone(lambda: self.gives_up) if self.suspect else True)
            assert self.let_go.wait(20)

    def finish(self) -> None:
        self.let_go.set()
        self.done.result(20)


def test_jobs_run_together(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    tasks = [Task(pool, gate) for _ in range(3)]
    assert all(task.running.get(timeout=20) for task in tasks)
    for task in tasks:
        task.finish()


def test_a_suspect_runs_alone(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    before = Task(pool, gate)
    assert before.running.get(timeout=20)
    suspect = Task(pool, gate, suspect=True)
    assert suspect.entered.wait(20)
    assert suspect.running.empty()
    before.finish()
    assert suspect.running.get(timeout=20)
    after = Task(pool, gate)
    assert not after.entered.is_set()
    suspect.finish()
    assert after.running.get(timeout=20)
    after.finish()


def test_two_suspects_run_one_after_the_other(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    first = Task(pool, gate)
    assert first.entered.wait(20)
    suspects = [Task(pool, gate, suspect=True)]
    assert suspects[0].entered.wait(20)
    first.finish()
    assert suspects[0].running.get(timeout=20)
    suspects.append(Task(pool, gate, suspect=True))
    suspects[0].finish()
    assert suspects[1].running.get(timeout=20)
    suspects[1].finish()


def test_who_waits_to_be_alone_can_give_up(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    other = Task(pool, gate)
    assert other.entered.wait(20)
    suspect = Task(pool, gate, suspect=True)
    assert suspect.entered.wait(20)
    suspect.gives_up = True
    gate.look_again()
    assert not suspect.running.get(timeout=20)
    suspect.finish()
    third = Task(pool, gate)
    assert third.running.get(timeout=20)  # nobody is kept out any more
    for task in (other, third):
        task.finish()


def test_nobody_enters_a_gate_that_is_closed(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    suspect = Task(pool, gate, suspect=True)
    assert suspect.running.get(timeout=20)
    waiting = Task(pool, gate)
    gate.close()
    with pytest.raises(Closed):
        waiting.done.result(20)
    suspect.finish()
