"""Real servers for every test that asks for them: PostgreSQL and Redis from the wheels, API and workers.

The addresses are settled before any module of ours reads the settings; the servers start with the first
test that needs one, so that tests of plain functions wait for nothing.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from argon2 import PasswordHasher
from flask import Flask, has_request_context
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.orm import Session

_FOLDER = Path(tempfile.mkdtemp(prefix="pingvas-tests-"))
_START_SECONDS = 90


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_REDIS_PORT = free_port()
_REDIS_PASSWORD = "a-password-of-tests"

for _name in list(os.environ):  # what the machine's owner has set up is none of the tests' business
    if _name.startswith(("PINGVAS_", "S3_", "DATABASE_URL", "BROKER_URL", "REDIS_URL")):
        del os.environ[_name]
os.environ |= {
    "DATABASE_URL": f"postgresql://pingvas@/pingvas?host={_FOLDER / 'postgres'}",
    "BROKER_URL": f"redis://:{_REDIS_PASSWORD}@127.0.0.1:{_REDIS_PORT}/0",
    "PINGVAS_DATA_DIR": str(_FOLDER),
    "PINGVAS_SECRET_KEY": "a secret key of the tests, long enough to be one",
    "PINGVAS_LEASE_SECONDS": "4",
    "PINGVAS_HEARTBEAT_SECONDS": "1",
    "PINGVAS_SWEEP_SECONDS": "1",
    "PINGVAS_RING_AGAIN_SECONDS": "2",
    "PINGVAS_WORKER_GRACE_SECONDS": "2",
    "PINGVAS_LOGIN_ATTEMPTS": "10000",  # all tests come from one address
    "PINGVAS_LOCKOUT_ATTEMPTS": "10000",
}
# The running stack has a database and a broker of its own: its workers and sweeps must not answer for the
# rows that tests of single parts write.
_STACK_DATABASE = f"postgresql://pingvas@/stack?host={_FOLDER / 'postgres'}"
_STACK = {
    "DATABASE_URL": _STACK_DATABASE,
    "BROKER_URL": f"redis://:{_REDIS_PASSWORD}@127.0.0.1:{_REDIS_PORT}/1",
}

from pingvas import cached, db, domains, ids, migrations, roles, settings  # noqa: E402
from pingvas.accounts import passwords  # noqa: E402
from pingvas.billing import ledger, reconcile  # noqa: E402
from pingvas.cli import programs  # noqa: E402
from pingvas.cli.programs import Place, Program  # noqa: E402
from pingvas.cli.rest import Client  # noqa: E402
from pingvas.embedded import DataFolder, postgres, process  # noqa: E402
from pingvas.embedded import redis as redis_server  # noqa: E402
from pingvas.embedded.servers import forget_settings  # noqa: E402
from pingvas.jobs import dispatch  # noqa: E402
from pingvas.statements import Statements  # noqa: E402


# Tests own the database and do as they like; what they ask of the API is done as the API's role.
@event.listens_for(Engine, "begin")
def _take_on_role(connection: Connection) -> None:
    if has_request_context():
        connection.exec_driver_sql(f"SET LOCAL ROLE {roles.API}")


class _StatementsOfRoles(Statements):
    def _connection(self) -> Any:
        connection = super()._connection()
        connection.execute(f"SET ROLE {roles.API}" if has_request_context() else "RESET ROLE")
        return connection


vars(db)["Statements"] = _StatementsOfRoles


HASHER = passwords._hasher
"""As in production: a quarter of a second a password, on purpose. Tests make accounts by the thousand."""
passwords._hasher = PasswordHasher(time_cost=1, memory_cost=1_024, parallelism=1)


@pytest.fixture
def strong_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash as in production."""
    passwords._nobodys.cache_clear()
    monkeypatch.setattr(passwords, "_hasher", HASHER)


def pytest_unconfigure() -> None:
    """Remove what the servers wrote."""
    shutil.rmtree(_FOLDER, ignore_errors=True)


@pytest.fixture
def server_tmp() -> Iterator[Path]:
    """A temporary folder for servers. Not pytest's: other runs of pytest close that to the servers' user."""
    with tempfile.TemporaryDirectory(prefix="pingvas-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def data_folder() -> DataFolder:
    """The data folder of the session's servers."""
    folder = DataFolder(_FOLDER)
    folder.make()
    return folder


@pytest.fixture(scope="session")
def broker(data_folder: DataFolder) -> Iterator[str]:
    """A Redis for the session; its URL, which the settings already have."""
    (data_folder.path / "redis.key").write_text(_REDIS_PASSWORD)
    server = redis_server.start(data_folder, port=_REDIS_PORT)
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def database(data_folder: DataFolder) -> Iterator[str]:
    """A PostgreSQL for the session with the newest schema; its URL, which the settings already have."""
    server = postgres.start(data_folder, durable=False)
    domains.load()
    migrations.upgrade()
    allow_roles()
    yield server.url
    db.close()
    server.stop()


def allow_roles() -> None:
    """Let tests ask as the API does, see `_take_on_role`; the schema must be there."""
    as_superuser(f"GRANT {roles.API}, {roles.ADMIN} TO pingvas WITH INHERIT FALSE, SET TRUE")


def as_superuser(statement: LiteralString) -> None:
    """Run a statement as the one role that nothing else signs in with."""
    url = settings.get().database_url.replace("pingvas@/pingvas", "postgres@/postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture
def clean_db(database: str, broker: str) -> None:
    """Leave no row of an earlier test, save the catalogue that the schema brings."""
    dispatch.flush()
    tables = [name for name in db.Base.metadata.tables if name != "catalog_entries"]
    with db.transaction() as session:
        session.execute(text(f"TRUNCATE {', '.join(tables)}"))
        session.execute(text("DELETE FROM catalog_entries WHERE location NOT LIKE 'builtin:%'"))
    cached.forget_all()


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    """Let a test change the environment: settings and engine are made anew before and after it."""
    forget_settings()
    yield
    forget_settings()


@pytest.fixture(scope="session")
def app(database: str, broker: str) -> Flask:
    """The Flask application on the session's servers."""
    from pingvas.app import create_app

    return create_app()


@pytest.fixture
def client(app: Flask, clean_db: None) -> FlaskClient:
    """Flask's test client, on an empty database."""
    return app.test_client()


class Stack:
    """The programs that users run, on the session's servers: API, GPU worker, control worker and beat."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.url = place.url

    def start(self, program: Program) -> None:
        """Start a program."""
        self._children[program.name] = process.spawn(
            program.argv,
            log=self._place.folder.log(program.name),
            cwd=self._place.folder.path,
            env=programs.environment(program) | _STACK | programs.database(program.role, _STACK_DATABASE),
        )

    def start_worker(self, **environment: str) -> None:
        """Start the GPU worker, if it is not there, with these variables beside the others."""
        if "gpu-worker" not in self._children:
            self.start(replace(programs.gpu_worker(self._place), environment=environment))

    def signal_worker(self, number: int) -> None:
        """Send the GPU worker a signal."""
        self._children["gpu-worker"].send_signal(number)

    def worker_status(self) -> int:
        """Wait until the GPU worker has ended; return its exit status."""
        return self._children.pop("gpu-worker").wait(60)

    def worker_log(self) -> str:
        """Return what the GPU worker has said."""
        return self._place.folder.log("gpu-worker").read_text()

    def another_worker(self) -> "subprocess.CompletedProcess[str]":
        """Start a second GPU worker of the same name, and return how it ended."""
        argv, environment = programs.gpu_worker(self._place).argv, os.environ | _STACK
        return subprocess.run(
            argv, env=environment, cwd=self._place.folder.path, text=True, capture_output=True, timeout=60
        )

    def pingvas(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command line against the stack."""
        argv = [str(Path(sys.executable).with_name("pingvas")), *arguments]
        return subprocess.run(argv, env=os.environ | _STACK, text=True, capture_output=True, timeout=60)

    def start_beat(self, name: str = "beat") -> None:
        """Start a beat with a schedule of its own."""
        made = programs.beat(self._place)
        schedule = ("--schedule", str(self._place.folder.path / f"{name}-schedule"))
        self.start(replace(made, name=name, argv=(*made.argv, *schedule)))

    def kill_worker(self) -> None:
        """Kill -9 the GPU worker and all its children."""
        self.kill("gpu-worker")

    def kill(self, name: str) -> None:
        """Kill -9 a program and all its children."""
        child = self._children.pop(name)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def stop_worker(self) -> int:
        """Ask the GPU worker to leave, as a deployment does; return its exit status."""
        child = self._children.pop("gpu-worker")
        child.terminate()
        process.wait_or_kill(child, 30)
        return child.returncode

    def stop(self) -> None:
        """Stop all programs."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            process.wait_or_kill(child, 30)

    def problems(self) -> dict[str, list[str]]:
        """Return what is wrong with the stack's books."""
        with self._books() as session:
            return reconcile.problems(session)

    def runs(self) -> dict[str, int]:
        """Return how often each scheduled task was begun."""
        with self._books() as session:
            return {
                str(task): int(runs)
                for task, runs in session.execute(text("SELECT task, runs FROM beat_runs"))
            }

    def give(self, user_id: str, credits: int) -> None:
        """Give a customer credits that are kept."""
        legs = {ledger.Account.PURCHASED: credits, ledger.Account.GRANTS: -credits}
        with self._books() as session:
            ledger.post(session, UUID(user_id), f"test:{ids.new()}", ledger.Type.ADJUSTMENT, legs)
            session.commit()

    @contextmanager
    def _books(self) -> Iterator[Session]:
        engine = create_engine(db.sqlalchemy_url(_STACK["DATABASE_URL"]))
        with Session(engine) as session:
            yield session
        engine.dispose()

    def wait_ready(self) -> None:
        """Wait until the API says it is ready."""
        wait_until_ready(Client(self.url), self._children, self._place.folder.log)


def wait_until_ready(
    client: Client, children: Mapping[str, "subprocess.Popen[bytes]"], log: Callable[[str], Path]
) -> None:
    """Wait until an API says it is ready; `log` gives the log of a child that died, or of `api`."""
    deadline = time.monotonic() + _START_SECONDS
    while not client.ready():
        dead = next((name for name, child in children.items() if child.poll() is not None), None)
        if dead or time.monotonic() > deadline:
            pytest.fail(f"{dead or 'api'} did not start:\n{process.tail(log(dead or 'api'), 40)}")
        time.sleep(0.1)


@pytest.fixture(scope="session")
def stack(database: str, broker: str, data_folder: DataFolder) -> Iterator[Stack]:
    """The running stack. Leases are short, so that a killed worker's job is given away within seconds."""
    as_superuser("CREATE DATABASE stack OWNER pingvas")
    command = [str(Path(sys.executable).with_name("pingvas")), "db", "upgrade"]
    subprocess.run(command, env=os.environ | _STACK, check=True, stdout=subprocess.DEVNULL)
    place = Place(data_folder, port=free_port())
    running = Stack(place)
    with ExitStack() as cleanup:
        cleanup.callback(running.stop)
        makers = (programs.api, programs.gpu_worker, programs.control_worker, programs.beat)
        for make in makers:
            running.start(make(place))
        running.wait_ready()
        yield running


@pytest.fixture(autouse=True)
def _settings_are_the_sessions() -> None:
    """Fail a test that comes after one which left other settings behind."""
    assert str(settings.get().data_dir) == str(_FOLDER)
