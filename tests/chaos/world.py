"""A whole instance on servers of its own, every process of which can be killed."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

from pingvas import domains, migrations
from pingvas.cli import programs
from pingvas.cli.programs import Place, Program
from pingvas.cli.rest import Client
from pingvas.embedded import DataFolder, postgres, process
from pingvas.embedded import redis as redis_server
from pingvas.embedded.servers import forget_settings
from pingvas.jobs import routing

WORKERS: Final = 2
ROOT: Final = Path(__file__).resolve().parents[2]
_START_SECONDS: Final = 60.0
# Short leases, so that what is lost comes back in seconds; no limits on calls, all come from one address.
SHORT: Final = {
    "PINGVAS_LEASE_SECONDS": "3",
    "PINGVAS_HEARTBEAT_SECONDS": "0.5",
    "PINGVAS_SWEEP_SECONDS": "1",
    "PINGVAS_RING_AGAIN_SECONDS": "2",
    "PINGVAS_WORKER_GRACE_SECONDS": "2",
}
_OPEN: Final = {
    "PINGVAS_DEVELOPMENT": "true",
    "PINGVAS_ACCESS_TOKEN_SECONDS": "3600",
    "PINGVAS_ANONYMOUS_PER_MINUTE": "0",
    "PINGVAS_WRITES_PER_MINUTE": "0",
    "PINGVAS_READS_PER_MINUTE": "0",
    "PINGVAS_LOGIN_ATTEMPTS": "0",
}


def worker_name(number: int) -> str:
    """Return the name of a GPU worker among the programs."""
    return f"worker-{number}"


class World:
    """Servers and programs. Programs end with the thread that starts them: let it be the main one."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self.postgres = postgres.start(folder)
        self.redis_port = _free_port()
        self.redis = redis_server.start(folder, port=self.redis_port)
        self.place = Place(folder, port=_free_port())
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return self.place.url

    def start_programs(self, workers: int = WORKERS) -> None:
        """Start everything and wait until the API says it is ready."""
        self.start(programs.api(self.place))
        self.start(programs.beat(self.place))
        self.start(self.sweeper())
        for number in range(workers):
            self.start(self.gpu_worker(number))
        self.wait_ready()

    def gpu_worker(self, number: int, fault: str = "", threads: int = 4) -> Program:
        """Return a worker that draws with the stand-in, and dies where `fault` says."""
        argv = _on_standin(programs.worker(worker_name(number), routing.queue_names(), threads))
        return Program(worker_name(number), argv, {"PINGVAS_FAULT": fault})

    def sweeper(self) -> Program:
        """Return the worker of the sweep."""
        made = programs.control_worker(self.place)
        return replace(made, argv=_on_standin(made.argv))

    def start(self, program: Program) -> None:
        """Start a program."""
        self._children[program.name] = process.spawn(
            program.argv,
            log=self.folder.log(program.name),
            cwd=self.folder.path,
            env=programs.environment(program) | {"PYTHONPATH": str(ROOT)},
        )

    def pid(self, name: str) -> int:
        """Return a program's process id, which leads a group of its own."""
        return self._children[name].pid

    def kill(self, name: str) -> None:
        """Kill -9 a program and all its children."""
        child = self._children.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def dies(self, name: str, seconds: float) -> bool:
        """Wait until a program dies by itself; False when it does not."""
        try:
            self._children[name].wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill_api_process(self) -> None:
        """Kill -9 one of the API's processes, which the API starts again."""
        for child in psutil.Process(self.pid("api")).children()[-1:]:
            child.kill()

    def restart_redis(self) -> None:
        """Kill -9 Redis and start it on what it had written."""
        assert self.redis.identity
        os.kill(self.redis.identity.pid, signal.SIGKILL)
        self.redis.stop()
        self.redis = redis_server.start(self.folder, port=self.redis_port)

    def restart_postgres(self, hard: bool) -> None:
        """Stop PostgreSQL as an upgrade does, or kill it, and start it."""
        assert self.postgres.identity
        if hard:
            os.kill(self.postgres.identity.pid, signal.SIGKILL)
        self.postgres.stop()
        self.postgres = postgres.start(self.folder)

    @contextmanager
    def broken_store(self, names: list[str]) -> Iterator[None]:
        """Let programs write no byte to any file for a while: a full disk, for root too."""
        limits = {self.pid(name): resource.prlimit(self.pid(name), resource.RLIMIT_FSIZE) for name in names}
        for pid, (_, most) in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
        yield
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)

    def wait_ready(self) -> None:
        """Wait until the API says it is ready."""
        deadline = time.monotonic() + _START_SECONDS
        client = Client(self.url)
        while not client.ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the API is not ready:\n{process.tail(self.folder.log('api'), 30)}")
            time.sleep(0.1)

    def stop_programs(self) -> None:
        """Ask all programs to end."""
        for child in self._children.values():
            child.send_signal(signal.SIGCONT)
            child.terminate()
        for child in self._children.values():
            process.wait_or_kill(child, 15)
        self._children = {}


@contextmanager
def made(environment: dict[str, str]) -> Iterator[World]:
    """Make a world, point this process at it, and leave its folder behind if the block fails."""
    for name in list(os.environ):
        if name.startswith(("PINGVAS_", "S3_", "DATABASE_URL", "BROKER_URL", "REDIS_URL")):
            del os.environ[name]
    folder = DataFolder(Path(tempfile.mkdtemp(prefix="pingvas-chaos-")))
    folder.make()
    with ExitStack() as cleanup:
        world = World(folder)
        cleanup.callback(lambda: world.postgres.stop())
        cleanup.callback(lambda: world.redis.stop())
        cleanup.callback(world.stop_programs)
        os.environ |= _OPEN | environment
        os.environ |= {"DATABASE_URL": world.postgres.url, "BROKER_URL": world.redis.url}
        os.environ |= {"PINGVAS_DATA_DIR": str(folder.path), "PINGVAS_SECRET_KEY": folder.secret_key()}
        forget_settings()
        domains.load()
        migrations.upgrade()
        yield world
    shutil.rmtree(folder.path)


def _on_standin(argv: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("tests.chaos.worker" if part == "tasks" else part for part in argv)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
