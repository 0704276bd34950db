"""The servers of an instance: embedded ones, save where the environment names others."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pingvas import cached, db, settings
from pingvas.embedded import postgres, process
from pingvas.embedded import redis as redis_server
from pingvas.embedded.folder import DataFolder, EmbeddedError, Instance

_LEFTOVER_SECONDS = 15.0
_BUSY_SECONDS = 60.0  # how long a command waits for another one's database to stop


Step = Callable[[str], AbstractContextManager[None]]
"""Shows that something is being done while the block runs."""


@contextmanager
def _silent(_: str) -> Iterator[None]:
    yield


@dataclass
class Servers:
    """What `start` started; `stop` ends it."""

    instance: Instance
    embedded: dict[str, postgres.Postgres | redis_server.Redis] = field(default_factory=dict)

    def stopped(self) -> str | None:
        """Return the name of an embedded server that is no longer there."""
        return next((name for name, server in self.embedded.items() if not server.running()), None)


@contextmanager
def running(folder: DataFolder, *, broker: bool = True, step: Step = _silent) -> Iterator[Servers]:
    """Run the embedded servers that the settings ask for, and point this process's environment at them.

    The caller holds the folder's lock. What a killed run left behind is ended first.

    Raises:
        EmbeddedError: a server does not start.
    """
    if folder.read():
        with step("Ending what a killed run left behind"):
            end_leftovers(folder)
    servers = Servers(Instance())
    with ExitStack() as stack:
        stack.callback(folder.forget)
        config = settings.get()
        values = {"PINGVAS_DATA_DIR": str(folder.path)}
        values["PINGVAS_SECRET_KEY"] = config.secret_key.get_secret_value() or folder.secret_key()
        values["DATABASE_URL"] = config.database_url or _postgres(folder, servers, stack, step)
        if broker:
            values["BROKER_URL"] = config.broker_url or _redis(folder, servers, stack, step)
            values["REDIS_URL"] = config.redis_url or values["BROKER_URL"]
        servers.instance.environment = values
        folder.write(servers.instance)
        with environment(values):
            yield servers


def _postgres(folder: DataFolder, servers: Servers, stack: ExitStack, step: Step) -> str:
    with step("PostgreSQL"):
        server = postgres.start(folder, on_spawn=_Note(folder, servers.instance, "postgres"))
    stack.callback(server.stop)
    servers.embedded["postgres"] = server
    return server.url


def _redis(folder: DataFolder, servers: Servers, stack: ExitStack, step: Step) -> str:
    with step("Redis"):
        server = redis_server.start(folder, on_spawn=_Note(folder, servers.instance, "redis"))
    stack.callback(server.stop)
    servers.embedded["redis"] = server
    return server.url


@dataclass
class _Note:
    """Writes a process down as soon as it exists, so that a later run can end it."""

    folder: DataFolder
    instance: Instance
    name: str

    def __call__(self, identity: process.Identity) -> None:
        self.instance.processes[self.name] = identity
        self.folder.write(self.instance)


def end_leftovers(folder: DataFolder) -> None:
    """End what a killed run left behind: programs first, then Redis, then the database under them."""
    found = folder.read()
    if found is None:
        return
    order = {"redis": 1, "postgres": 2}
    for name, identity in sorted(found.processes.items(), key=lambda item: order.get(item[0], 0)):
        how = postgres.FAST if name == "postgres" else signal.SIGTERM
        process.end(identity, _LEFTOVER_SECONDS, how)
    folder.forget()


def attach(data_dir: Path | None = None) -> Instance | None:
    """Point this process at the instance that runs on a data folder; None when none does.

    What the environment already says is kept.
    """
    folder = DataFolder(data_dir or settings.get().data_dir)
    found = folder.running()
    if found is not None:
        for name, value in found.environment.items():
            if not os.environ.get(name):
                os.environ[name] = value
        forget_settings()
    return found


@contextmanager
def database(data_dir: Path | None = None) -> Iterator[bool]:
    """Give a command its database: an external or running one, else the embedded one for the block's length.

    Yields True when the embedded one was started here, so that nobody else can have brought it up to date.

    Raises:
        EmbeddedError: the server does not start, or an instance that is starting does not get there.
    """
    config = settings.get()
    if config.database_url or attach(data_dir):
        yield False
        return
    folder = DataFolder(data_dir or config.data_dir)
    folder.make()
    with folder.lock(_BUSY_SECONDS), running(folder, broker=False):
        yield True


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables of this process's environment for the block's length."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    forget_settings()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        forget_settings()


def forget_settings() -> None:
    """Let the settings, the database engine and what was read with them be made anew from the environment."""
    db.close()
    settings.get.cache_clear()
    cached.forget_all()


__all__ = [
    "EmbeddedError",
    "Servers",
    "attach",
    "database",
    "end_leftovers",
    "environment",
    "forget_settings",
    "running",
]
