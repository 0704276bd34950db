"""Keeps the programs of an instance running: starts a dead one again, gives up on one that cannot live."""

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pingvas.cli import programs
from pingvas.cli.console import CommandError
from pingvas.cli.programs import Program
from pingvas.cli.signals import Waiter
from pingvas.embedded import DataFolder, Servers, process
from pingvas.embedded.process import Identity

QUICK_SECONDS = 10.0
QUICK_DEATHS = 5
_LOG_BYTES = 10_000_000


class GaveUpError(CommandError):
    """A program died too often."""


@dataclass
class _Slot:
    program: Program
    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    again_at: float = 0.0


def quick_deaths(before: int, lived_seconds: float) -> int:
    """Return how many quick deaths in a row there have been, after one more death."""
    return before + 1 if lived_seconds < QUICK_SECONDS else 1


def pause_seconds(deaths: int) -> float:
    """Return the pause before a start after so many quick deaths: 0.5, 1, 2, 4 seconds."""
    return float(0.5 * 2 ** (deaths - 1))


class Supervisor:
    """Runs programs as children of the calling (main) thread. `report` is told of each death."""

    def __init__(
        self, folder: DataFolder, servers: Servers, waiter: Waiter, report: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._servers = servers
        self._waiter = waiter
        self._report = report
        self._slots: list[_Slot] = []

    def start(self, wanted: list[Program]) -> None:
        """Start all programs."""
        self._slots = [_Slot(program) for program in wanted]
        for slot in self._slots:
            self._start(slot)

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass while the programs are kept running; returns earlier when one has died.

        Raises:
            GaveUpError: one dies again and again, or an embedded server has ended.
        """
        now = time.monotonic()
        due = [slot.again_at - now for slot in self._slots if slot.child is None]
        self._waiter.wait(min([seconds, *due]))
        gone = self._servers.stopped()
        if gone:
            raise GaveUpError(f"The embedded {gone} has ended by itself.{self._end_of_log(gone)}")
        for slot in self._slots:
            self._look_after(slot)

    def forever(self) -> None:
        """Keep the programs running until a signal comes."""
        while True:
            self.wait(3_600)

    def stop(self) -> None:
        """Ask all programs to end, and kill those that do not in their time."""
        running = [(slot, slot.child) for slot in self._slots if slot.child]
        for _, child in running:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        began = time.monotonic()
        for slot, child in running:
            left = slot.program.stop_seconds - (time.monotonic() - began)
            if not process.wait_or_kill(child, left):
                self._report(f"{slot.program.name} did not end in time and was killed.")
        self._slots = []

    def _start(self, slot: _Slot) -> None:
        log = self._folder.log(slot.program.name)
        _rotate(log)
        slot.child = process.spawn(
            slot.program.argv, log=log, cwd=self._folder.path, env=programs.environment(slot.program)
        )
        slot.started = time.monotonic()
        identity = Identity.of(slot.child.pid)
        if identity:
            self._servers.instance.processes[slot.program.name] = identity
            self._folder.write(self._servers.instance)

    def _look_after(self, slot: _Slot) -> None:
        now = time.monotonic()
        if slot.child is None:
            if now >= slot.again_at:
                self._start(slot)
        elif slot.child.poll() is not None:
            status = slot.child.returncode
            process.wait_or_kill(slot.child, 0)  # what it started must not outlive it
            slot.child = None
            slot.deaths = quick_deaths(slot.deaths, now - slot.started)
            self._mourn(slot, status)
            slot.again_at = now + pause_seconds(slot.deaths)

    def _mourn(self, slot: _Slot, status: int) -> None:
        name = slot.program.name
        how = f"signal {-status}" if status < 0 else f"status {status}"
        end = self._end_of_log(name)
        if slot.deaths >= QUICK_DEATHS:
            raise GaveUpError(f"{name} died {slot.deaths} times at once (last with {how}): giving up.{end}")
        self._report(f"{name} died ({how}) and is started again.{end}")

    def _end_of_log(self, name: str) -> str:
        log = self._folder.log(name)
        lines = process.tail(log)
        return f" The end of {log}:\n{lines}" if lines else ""


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
