"""Ask for a picture over the API, show how it gets on, save it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from pingvas.cli import console
from pingvas.cli.console import CommandError
from pingvas.cli.rest import Client

POLL_SECONDS = 0.15
_WAIT_SECONDS = 600.0
_RUNNING = ("pending", "in_progress")

Pause = Callable[[float], None]
"""Lets some seconds pass; the supervisor's also looks after its programs."""


@dataclass(frozen=True)
class Picture:
    """A saved picture, and what it took."""

    file: Path
    seconds: float
    gpu_seconds: float
    credits: int
    balance: int
    unlimited: bool

    def describe(self) -> str:
        """Return it all in one line."""
        left = "unlimited" if self.unlimited else f"{self.balance} left"
        took = f"{self.seconds:.1f} s ({self.gpu_seconds:.1f} s on the device)"
        return f"{self.file}  {took}, {self.credits} credit{'' if self.credits == 1 else 's'} charged, {left}"


def make(client: Client, order: dict[str, Any], file: Path, pause: Pause = time.sleep) -> Picture:
    """Order a picture, wait for it with a progress bar, and save it.

    Raises:
        CommandError: the order was refused, the job failed, or the file cannot be written.
    """
    began = time.monotonic()
    accepted = client.post("/api/v1/generate", order)
    job = _follow(client, accepted["links"]["self"], pause)
    seconds = time.monotonic() - began
    if job["status"] != "completed":
        reason = (job.get("error") or {}).get("detail") or "no reason was given"
        raise CommandError(f"The job {job['job_id']} {job['status']}: {reason}")
    _save(file, client.content(job["image_url"]))
    balance = client.get("/api/v1/credits/balance")
    return Picture(
        file, seconds, job["gpu_seconds"], job["credits_consumed"], balance["balance"], balance["unlimited"]
    )


def _follow(client: Client, path: str, pause: Pause) -> dict[str, Any]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    deadline = time.monotonic() + _WAIT_SECONDS
    with Progress(*columns, console=console.out, transient=True, disable=not console.out.is_terminal) as bar:
        shown = _Shown(bar, bar.add_task("", total=None))
        while True:
            job: dict[str, Any] = client.get(path)
            if job["status"] not in _RUNNING:
                return job
            if time.monotonic() > deadline:
                raise CommandError(
                    f"The job {job['job_id']} is still {job['status']} after {_WAIT_SECONDS / 60:.0f} min "
                    f"and goes on without this command. GET {client.url}{path} will name its pictures."
                )
            shown.update(job)
            pause(POLL_SECONDS)


class _Shown:
    """The progress bar; without a terminal, a line whenever the words change."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task, self._words = bar, task, ""

    def update(self, job: dict[str, Any]) -> None:
        words = _words(job)
        step, total = job["progress"]["step"], job["progress"]["total_steps"]
        count = f" {step}/{total}" if step else ""
        self._bar.update(
            self._task, description=words + count, completed=step, total=total if step and total else None
        )
        if words != self._words and not console.out.is_terminal:
            console.say(f"  {words} …")
        self._words = words


def _words(job: dict[str, Any]) -> str:
    if job["status"] == "pending":
        if job["attempt"]:
            return "waiting for another try"
        return (
            "waiting for a worker"
            if job["eta_seconds"]
            else "waiting: operators have paused the plan's queue"
        )
    return "drawing" if job["progress"]["step"] else "loading the model"


def _save(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise CommandError(f"The picture cannot be written to {file}: {error.strerror}") from None
