"""The programs of an instance: what is started, with which arguments."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from pingvas import roles, settings
from pingvas.embedded import DataFolder, postgres
from pingvas.jobs import routing

_API_PROCESSES = 2
_API_CONNECTIONS = 8_192  # of a process; granian's default of 512 would let listeners shut everybody out
CONTROL_THREADS = 4
_STOP_SECONDS = 10.0
_NO_DATABASE = {"DATABASE_URL": ""}  # what only looks at the broker needs none


@dataclass(frozen=True)
class Program:
    """One program; `role` is its name in the database, `stop_seconds` how long it may take to end."""

    name: str
    argv: tuple[str, ...]
    role: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    stop_seconds: float = _STOP_SECONDS


@dataclass(frozen=True)
class Place:
    """Where an instance listens and keeps its files."""

    folder: DataFolder
    host: str = "127.0.0.1"
    port: int = 8000
    flower_port: int = 5555

    @property
    def url(self) -> str:
        """Return the API's address for clients on this machine."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def flower_url(self) -> str:
        """Return Flower's address."""
        return f"http://127.0.0.1:{self.flower_port}"


def everything(place: Place) -> list[Program]:
    """Return all programs of an instance."""
    return [api(place), gpu_worker(place), control_worker(place), beat(place), flower(place)]


def api(place: Place) -> Program:
    """Return the HTTP API: granian, which starts dead processes of its own again."""
    argv = [*_python("granian"), "--interface", "asgi", "--host", place.host, "--port", str(place.port)]
    argv += ["--workers", str(_API_PROCESSES), "--respawn-failed-workers", "--workers-kill-timeout", "5"]
    argv += ["--backpressure", str(_API_CONNECTIONS)]
    argv += ["--no-access-log", "--log-level", _level().lower(), "pingvas.asgi:app"]
    return Program("api", tuple(argv), roles.API)


def gpu_worker(place: Place) -> Program:
    """Return the worker that makes pictures, of every tier and family."""
    config = settings.get()
    argv = worker(_name(place, "gpu"), routing.queue_names(), config.worker_concurrency)
    return Program("gpu-worker", argv, roles.WORKER, stop_seconds=config.worker_grace_seconds + _STOP_SECONDS)


def control_worker(place: Place) -> Program:
    """Return the worker of sweeps and clean-up, which need no GPU."""
    argv = worker(_name(place, "control"), [routing.CONTROL], CONTROL_THREADS)
    return Program("control-worker", argv, roles.CONTROL)


def beat(place: Place) -> Program:
    """Return the scheduler; an instance has one."""
    schedule = str(place.folder.path / "beat-schedule")
    argv = (*_celery("beat"), "--loglevel", _level(), "--schedule", schedule)
    return Program("beat", argv, roles.CONTROL)


def flower(place: Place) -> Program:
    """Return the monitor. Its login goes by environment, where no list of processes shows it."""
    listen = ("--address=127.0.0.1", f"--port={place.flower_port}")
    argv = (*_python("tasks.monitor"), *listen, f"--logging={_level().lower()}")
    login = {"FLOWER_BASIC_AUTH": flower_login(place.folder)}
    return Program("flower", argv, environment=_NO_DATABASE | login)


def flower_login(folder: DataFolder) -> str:
    """Return `user:password` of Flower; made on first use."""
    return f"pingvas:{folder.secret('flower.key', 24)}"


def environment(program: Program) -> dict[str, str]:
    """Return the environment a program runs in: this process's, unbuffered, its database role's, its own.

    One health port cannot be every program's; the supervisor sees for itself which of them live.
    """
    shared = {"PYTHONUNBUFFERED": "1", settings.variable("health_port"): "0"}
    return {**os.environ, **shared, **database(program.role), **program.environment}


def database(role: str, url: str | None = None) -> dict[str, str]:
    """Return the variables that let a program sign in to the embedded database as `role`."""
    url = settings.get().database_url if url is None else url
    return {"DATABASE_URL": postgres.as_role(url, role)} if role and url else {}


def worker(name: str, queues: Sequence[str], threads: int) -> tuple[str, ...]:
    """Return the arguments of a Celery worker: queues highest tier first, threads as many as jobs at once."""
    options = ["-n", f"{name}@%h", "-Q", ",".join(queues), "-P", "threads", "-c", str(threads), "-E"]
    # Gossip and mingle let workers know each other; ours meet in the database.
    return (*_celery("worker"), *options, "--without-gossip", "--without-mingle", "--loglevel", _level())


def _name(place: Place, kind: str) -> str:
    return f"{kind}-{place.port}"  # the port keeps instances apart that share a broker and a machine


def _celery(command: str) -> tuple[str, ...]:
    return (*_python("celery"), "-A", "tasks", command)


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module)


def _level() -> str:
    return settings.get().log_level
