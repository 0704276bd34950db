"""A worker of the real broker order whose tasks are no pictures: `celery -A tasks.bench.standin worker …`.

What was started is told to a file, a line a task, in the order of the starts.
"""

import os
import time
from pathlib import Path

from celery import Celery, signals

from tasks.broker import turns

JOURNAL = "PINGVAS_BENCH_JOURNAL"  # the file's variable

for _signal in (signals.worker_init, signals.worker_ready, signals.worker_shutting_down):
    _signal.receivers.clear()  # the GPU worker's: no engine starts here, nobody is told of this worker

app = Celery("standin")
app.config_from_object("celeryconfig")


def _note(word: str) -> None:
    with Path(os.environ[JOURNAL]).open("a") as journal:
        journal.write(f"{time.monotonic()} {word}\n")


@app.task(name="standin.work")
def work(label: str, gpu_seconds: float = 1.0, seconds: float = 0.0) -> None:
    """Say that it started, last `seconds`, and cost `gpu_seconds`."""
    _note(label)
    if seconds:
        time.sleep(seconds)
    turns.spent(gpu_seconds)


@app.task(name="standin.gate")
def gate(path: str) -> None:
    """Keep a place of the worker until somebody writes to the named pipe at `path`."""
    if not Path(path).exists():
        return  # it was opened; the message came a second time
    pipe = os.open(path, os.O_RDWR)  # before the word is out: what is written to a pipe nobody has is lost
    _note("gate")
    os.read(pipe, 1)
    os.close(pipe)


@app.task(name="standin.forget")
def forget() -> None:
    """Let every tier begin anew."""
    turns.fair_order.cache_clear()
    _note("forgotten")
