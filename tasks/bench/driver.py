"""Drives one worker of stand-in tasks: fills its queues while it is held up, and hears what it starts.

The worker is a process with the options of production; only its tasks are no pictures.
"""

import os
import select
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery

import celeryconfig
from pingvas import settings
from pingvas.billing.plans import Tier
from pingvas.embedded import process
from pingvas.jobs.dispatch import INTERACTIVE_PRIORITY, wire_priority
from tasks.bench import standin

PLACES = 4  # as PINGVAS_WORKER_CONCURRENCY has it
SILENCE_SECONDS = 20.0  # a start that takes longer will not come


@dataclass(frozen=True)
class Start:
    """A task that began; `at` is the monotonic clock."""

    label: str
    at: float


@dataclass(frozen=True)
class Work:
    """A task to send; `seconds` is how long it keeps its place, `gpu_seconds` what it is charged."""

    queue: str
    label: str
    gpu_seconds: float = 1.0
    seconds: float = 0.0
    priority: int = INTERACTIVE_PRIORITY


class Driver:
    """One worker and a sender on the broker at `url`; made by `running`."""

    def __init__(self, url: str, folder: Path, journal: int) -> None:
        self._url, self._folder, self._journal = url, folder, journal
        self._heard: list[Start] = []
        self._rest = b""
        self._gates: list[Path] = []
        self._app = Celery("driver", set_as_current=False)
        self._app.config_from_object("celeryconfig")
        self._app.conf.update(broker_url=url, broker_transport_options=celeryconfig.transport_options(url))

    def send(self, works: Iterable[Work]) -> None:
        """Put tasks on their queues, in order."""
        with self._app.producer_or_acquire() as producer:
            for work in works:
                self._send(
                    producer,
                    "standin.work",
                    work.queue,
                    work.priority,
                    work.label,
                    work.gpu_seconds,
                    work.seconds,
                )

    def _send(self, producer: Any, name: str, queue: str, priority: int, *args: object) -> None:
        priority = wire_priority(priority, self._url)
        self._app.send_task(name, args=args, queue=queue, priority=priority, producer=producer)

    def starts(self, number: int) -> list[Start]:
        """Return the next starts, in their order.

        Raises:
            TimeoutError: they do not come.
        """
        while len(self._heard) < number:
            ready, _, _ = select.select([self._journal], [], [], SILENCE_SECONDS)
            if not ready:
                log = process.tail(self._folder / "log", 20)
                raise TimeoutError(f"{len(self._heard)} of {number} tasks started:\n{log}")
            *lines, self._rest = (self._rest + os.read(self._journal, 65_536)).split(b"\n")
            for at, label in (line.decode().split(" ", 1) for line in lines):
                self._heard.append(Start(label, float(at)))
        found, self._heard = self._heard[:number], self._heard[number:]
        return found

    def labels(self, number: int) -> list[str]:
        """Return the labels of the next starts."""
        return [start.label for start in self.starts(number)]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep all places occupied, save those that `release` frees; every tier begins anew."""
        with self._app.producer_or_acquire() as producer:
            self._send(producer, "standin.forget", Tier.ENTERPRISE, 0)
        self.starts(1)
        self.hold(PLACES)
        try:
            yield
        finally:
            self.release(len(self._gates))

    def hold(self, places: int = 1) -> None:
        """Occupy places, once they are free."""
        with self._app.producer_or_acquire() as producer:
            for _ in range(places):
                gate = self._folder / f"gate-{time.monotonic_ns()}"
                os.mkfifo(gate)
                self._gates.append(gate)
                self._send(producer, "standin.gate", Tier.ENTERPRISE, 0, str(gate))
                self.starts(1)

    def drop(self) -> None:
        """Empty the queues, and hear the last of what had started."""
        self._app.control.purge()
        self.send([Work(Tier.ENTERPRISE, "end")])
        while self.labels(1) != ["end"]:
            pass

    def ping(self) -> None:
        """Return once the worker has been through its event loop, and so has reserved what it would.

        Raises:
            TimeoutError: it does not answer.
        """
        if not self._app.control.inspect(timeout=SILENCE_SECONDS, limit=1).ping():
            raise TimeoutError("the worker does not answer")

    def release(self, places: int = 1) -> None:
        """Give places free that `held` keeps."""
        for _ in range(places):
            gate = self._gates.pop()
            pipe = os.open(gate, os.O_RDWR)  # waits for no reader: the worker may be gone
            os.write(pipe, b".")
            os.close(pipe)
            gate.unlink()


@contextmanager
def running(
    url: str, queues: Sequence[str] = tuple(Tier), environment: Mapping[str, str] | None = None
) -> Iterator[Driver]:
    """Start a worker of `queues` on the broker at `url` and wait until it works.

    `environment` is the worker's alone: with a BROKER_URL in it, it takes another way to the same broker.
    """
    with tempfile.TemporaryDirectory(prefix="pingvas-driver-") as path, ExitStack() as cleanup:
        folder = Path(path)
        os.mkfifo(folder / "journal")
        journal = os.open(folder / "journal", os.O_RDWR)  # never at its end, whoever writes
        cleanup.callback(os.close, journal)
        own = {"BROKER_URL": url, standin.JOURNAL: str(folder / "journal"), **(environment or {})}
        own["REDIS_URL"] = settings.get().events_url
        child = process.spawn(_argv(queues), log=folder / "log", cwd=folder, env=os.environ | own)
        cleanup.callback(process.stop, child, 20)
        driver = Driver(url, folder, journal)
        with driver.held():
            pass
        yield driver


def _argv(queues: Sequence[str]) -> list[str]:
    options = ["-P", "threads", "-c", str(PLACES), "-E", "-Q", ",".join(queues), "-n", "standin@%h"]
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    return [sys.executable, "-m", "celery", "-A", "tasks.bench.standin", "worker", *options, *quiet]
