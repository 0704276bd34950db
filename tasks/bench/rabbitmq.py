"""A RabbitMQ of its own on a temporary folder, where the server is installed."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import amqp

from pingvas.embedded import process

_PROGRAMS = Path("/usr/lib/rabbitmq/bin")  # those in PATH change to the user of the system's own server
_START_SECONDS = 90.0


def missing() -> str:
    """Return what is not installed, or nothing."""
    if not (_PROGRAMS / "rabbitmq-server").exists():
        return "rabbitmq-server"
    return "" if shutil.which("epmd") else "epmd"


class Server:
    """One server with its folder, started and stopped as often as wanted; `url` stays the same."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._log = folder, folder / "log"
        self._port, names, distribution = free_ports(3)
        self._environment = _environment(folder, self._port, names, distribution)
        # Erlang would start this one as a daemon that stays behind.
        self._programs = [self._spawn(["epmd", "-port", str(names)])]
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._programs.append(self._spawn([str(_PROGRAMS / "rabbitmq-server")]))
        _wait_until_open(self._port, self._programs[-1], self._log)

    def restart(self) -> None:
        """Kill -9 it and start it on what it had written."""
        server = self._programs.pop()
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        self.start()

    def stop(self) -> None:
        """End for good."""
        for program in reversed(self._programs):
            program.terminate()
            process.wait_or_kill(program, 20)

    def _spawn(self, argv: list[str]) -> "subprocess.Popen[bytes]":
        return process.spawn(argv, log=self._log, cwd=self._folder, env=self._environment)


@contextmanager
def running() -> Iterator[Server]:
    """Run a server. Nothing of it outlives the block."""
    with tempfile.TemporaryDirectory(prefix="pingvas-rabbitmq-") as path:
        server = Server(Path(path))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _environment(folder: Path, port: int, names: int, distribution: int) -> dict[str, str]:
    (folder / "plugins").write_text("[].")
    return os.environ | {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_NODENAME": f"pingvas{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }


def free_ports(number: int) -> list[int]:
    """Return different loopback ports that were free a moment ago."""
    with ExitStack() as held:  # all at once, or one may be given twice
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _wait_until_open(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with amqp.Connection(f"127.0.0.1:{port}", connect_timeout=5):
                return
        except (OSError, amqp.AMQPError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"RabbitMQ does not start:\n{process.tail(log, 20)}") from None
            time.sleep(0.2)
