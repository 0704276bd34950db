"""A whole instance on servers of its own, every process of which can be killed."""

import os
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

from pingvas import domains, migrations, roles
from pingvas.cli import programs
from pingvas.cli.programs import Place, Program
from pingvas.cli.rest import Client
from pingvas.embedded import DataFolder, postgres, process
from pingvas.embedded.servers import forget_settings
from pingvas.jobs import routing
from tests.chaos import brokers, stores
from tests.chaos.brokers import Broker
from tests.chaos.stores import Store

TASKS: Final = "tests.chaos.worker"
WORKERS: Final = 2
BEATS: Final = ("beat", "beat-standby")
BROKERS: Final = ("redis", "rabbitmq")
STORES: Final = ("folder", "s3")
ROOT: Final = Path(__file__).resolve().parents[2]
PATHS: Final = os.pathsep.join((str(ROOT / "platform"), str(ROOT)))  # this tree, whatever is installed
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
    """Servers and programs. Programs end with the thread that starts them: let it be the main one.

    `tasks` is what its workers run, Celery's entry point.
    """

    def __init__(self, folder: DataFolder, broker: str, store: str, tasks: str = TASKS) -> None:
        self.folder, self._tasks = folder, tasks
        self.postgres = postgres.start(folder)
        self.events = brokers.Redis(folder, free_port())
        self.broker: Broker = brokers.RabbitMQ() if broker == "rabbitmq" else self.events
        self.store: Store = stores.S3(folder, free_port()) if store == "s3" else stores.Folder()
        self.place = Place(folder, port=free_port())
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return self.place.url

    def start_programs(self, workers: int = WORKERS) -> None:
        """Start everything and wait until the API says it is ready."""
        self.start(programs.api(self.place))
        for name in BEATS:
            self.start(self.beat(name))
        self.start(self.sweeper())
        for number in range(workers):
            self.start(self.gpu_worker(number))
        self.wait_ready()

    def gpu_worker(self, number: int, fault: str = "", threads: int = 4) -> Program:
        """Return a worker that draws with the stand-in, and dies where `fault` says."""
        argv = self._of_tasks(programs.worker(worker_name(number), routing.queue_names(), threads))
        return Program(worker_name(number), argv, roles.WORKER, {"PINGVAS_FAULT": fault})

    def sweeper(self) -> Program:
        """Return the worker of the sweep."""
        made = programs.control_worker(self.place)
        return replace(made, argv=self._of_tasks(made.argv))

    def beat(self, name: str) -> Program:
        """Return one of two beats, with a schedule of its own."""
        made = programs.beat(self.place)
        schedule = ("--schedule", str(self.folder.path / f"{name}-schedule"))
        return replace(made, name=name, argv=(*made.argv, *schedule))

    def kill_beats(self, *, both: bool) -> None:
        """Kill -9 a beat, or both for longer than a sweep's period, and start what is gone."""
        killed = BEATS if both else BEATS[:1]
        for name in killed:
            self.kill(name)
        if both:
            time.sleep(2 * float(SHORT["PINGVAS_SWEEP_SECONDS"]))
        for name in killed:
            self.start(self.beat(name))

    def _of_tasks(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self._tasks if part == "tasks" else part for part in argv)

    def start(self, program: Program) -> None:
        """Start a program."""
        self._children[program.name] = process.spawn(
            program.argv,
            log=self.folder.log(program.name),
            cwd=self.folder.path,
            env=programs.environment(program) | {"PYTHONPATH": PATHS},
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

    def end(self, name: str, seconds: float) -> None:
        """Ask a program to end, and kill it when it takes longer."""
        child = self._children.pop(name)
        child.terminate()
        process.wait_or_kill(child, seconds)

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

    def restart_postgres(self, hard: bool) -> None:
        """Stop PostgreSQL as an upgrade does, or kill it, and start it."""
        assert self.postgres.identity
        if hard:
            os.kill(self.postgres.identity.pid, signal.SIGKILL)
        self.postgres.stop()
        self.postgres = postgres.start(self.folder)

    def wait_ready(self) -> None:
        """Wait until the API says it is ready."""
        deadline = time.monotonic() + _START_SECONDS
        client = Client(self.url)
        while not client.ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the API is not ready:\n{process.tail(self.folder.log('api'), 30)}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End programs and servers."""
        self.stop_programs()
        self.store.stop()
        self.broker.stop()
        if self.broker is not self.events:
            self.events.stop()
        self.postgres.stop()

    def stop_programs(self) -> None:
        """Ask all programs to end."""
        for child in self._children.values():
            child.send_signal(signal.SIGCONT)
            child.terminate()
        for child in self._children.values():
            process.wait_or_kill(child, 15)
        self._children = {}


@contextmanager
def made(
    environment: dict[str, str], broker: str = "redis", store: str = "folder", tasks: str = TASKS
) -> Iterator[World]:
    """Make a world, point this process at it, and leave its folder behind if the block fails."""
    for name in list(os.environ):
        if name.startswith(("PINGVAS_", "S3_", "DATABASE_URL", "BROKER_URL", "REDIS_URL")):
            del os.environ[name]
    folder = DataFolder(Path(tempfile.mkdtemp(prefix="pingvas-chaos-")))
    folder.make()
    with ExitStack() as cleanup:
        world = World(folder, broker, store, tasks)
        cleanup.callback(world.stop)
        os.environ |= _OPEN | environment | world.store.environment
        os.environ |= {"DATABASE_URL": world.postgres.url, "BROKER_URL": world.broker.url}
        os.environ["REDIS_URL"] = world.events.url
        os.environ |= {"PINGVAS_DATA_DIR": str(folder.path), "PINGVAS_SECRET_KEY": folder.secret_key()}
        forget_settings()
        domains.load()
        migrations.upgrade()
        yield world
    shutil.rmtree(folder.path)


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
