"""The supervisor, with programs of a line each."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pingvas.cli.programs import Program
from pingvas.cli.signals import listening
from pingvas.cli.supervisor import GaveUpError, Supervisor, pause_seconds, quick_deaths
from pingvas.embedded import DataFolder, Instance, Servers
from pingvas.embedded.process import Identity

_PAUSE = "import signal; signal.pause()"


def program(name: str, code: str, **options: float) -> Program:
    return Program(name, (sys.executable, "-c", code), **options)  # type: ignore[arg-type]


@dataclass
class Watched:
    """A supervisor and what it said."""

    folder: DataFolder
    supervisor: Supervisor
    instance: Instance
    said: list[str] = field(default_factory=list)

    def wait_until_said(self, words: str) -> None:
        deadline = time.monotonic() + 30
        while not any(words in line for line in self.said):
            assert time.monotonic() < deadline, self.said
            self.supervisor.wait(0.1)

    def pid(self, name: str) -> int:
        return self.instance.processes[name].pid


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    folder = DataFolder(tmp_path)
    folder.make()
    said: list[str] = []
    servers = Servers(Instance())
    with listening() as waiter:
        supervisor = Supervisor(folder, servers, waiter, said.append)
        yield Watched(folder, supervisor, servers.instance, said)
        supervisor.stop()


def test_quick_deaths_in_a_row_are_counted() -> None:
    assert quick_deaths(0, 1.0) == 1
    assert quick_deaths(3, 1.0) == 4
    assert quick_deaths(3, 60.0) == 1


def test_pauses_grow() -> None:
    assert [pause_seconds(deaths) for deaths in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]


def test_a_dead_program_is_started_again(watched: Watched) -> None:
    watched.supervisor.start([program("steady", _PAUSE)])
    first = watched.pid("steady")
    os.kill(first, 9)
    watched.wait_until_said("steady died (signal 9)")
    deadline = time.monotonic() + 20
    while watched.pid("steady") == first:
        assert time.monotonic() < deadline
        watched.supervisor.wait(0.1)
    os.kill(watched.pid("steady"), 0)


def test_the_end_of_its_log_comes_with_the_news(watched: Watched) -> None:
    watched.supervisor.start([program("broken", "raise SystemExit('the disk is full')")])
    watched.wait_until_said("the disk is full")


def test_it_gives_up_on_a_program_that_cannot_live(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingvas.cli.supervisor.pause_seconds", lambda deaths: 0.0)
    watched.supervisor.start([program("broken", "raise SystemExit('no luck')")])
    with pytest.raises(GaveUpError, match=r"broken died 5 times .*\nno luck"):
        watched.wait_until_said("never")
    assert len(watched.said) == 4


def test_stop_kills_who_does_not_listen_and_what_they_started(watched: Watched) -> None:
    deaf = "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    child = f"print(subprocess.Popen([sys.executable, '-c', {_PAUSE!r}]).pid, flush=True); {_PAUSE}"
    watched.supervisor.start([program("deaf", deaf + child, stop_seconds=0.5)])
    log = watched.folder.log("deaf")
    deadline = time.monotonic() + 20
    while not log.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        watched.supervisor.wait(0.1)
    grandchild = Identity.of(int(log.read_text()))
    watched.supervisor.stop()
    assert any("deaf did not end in time" in line for line in watched.said)
    assert grandchild
    while grandchild.process():
        assert time.monotonic() < deadline
        time.sleep(0.05)
