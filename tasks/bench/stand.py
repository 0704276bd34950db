"""A test stand: the embedded servers on a temporary folder, and programs started against them."""

import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from pingvas import domains, embedded, migrations
from pingvas.embedded import DataFolder, process

_START_SECONDS = 60.0


@dataclass
class Stand:
    """Running servers (the environment points at them) and the programs that were started beside them."""

    folder: DataFolder
    servers: dict[str, psutil.Process]
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *argv: str) -> psutil.Process:
        """Start `python -m ARGV…`; its log goes to the folder."""
        child = process.spawn(
            (sys.executable, "-m", *argv), log=self.folder.log(name), cwd=self.folder.path, env=None
        )
        self.programs.append(child)
        return psutil.Process(child.pid)

    def stop(self) -> None:
        """Stop the programs."""
        for child in self.programs:
            child.terminate()
        for child in self.programs:
            process.wait_or_kill(child, 30)
        self.programs.clear()


@contextmanager
def running() -> Iterator[Stand]:
    """Run PostgreSQL (durable, as in production) and Redis on a temporary folder, with the schema."""
    with tempfile.TemporaryDirectory(prefix="pingvas-bench-") as path:
        folder = DataFolder(Path(path))
        folder.make()
        with folder.lock(1.0), embedded.running(folder) as servers:
            domains.load()
            migrations.upgrade()
            found = {name: psutil.Process(who.pid) for name, who in servers.instance.processes.items()}
            stand = Stand(folder, found)
            try:
                yield stand
            finally:
                stand.stop()


def wait_until_answers(url: str) -> None:
    """Wait until a GET is answered, whatever the answer.

    Raises:
        TimeoutError: nothing listens after a minute.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 (our own address)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing answers at {url}")


def cpu_seconds(root: psutil.Process) -> float:
    """Return the processor time of a process and its living children."""
    return sum(_own(each) for each in (root, *root.children(recursive=True)))


def _own(one: psutil.Process) -> float:
    try:
        used = one.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(used.user + used.system)
