"""What a connection to a database on another host does when that host vanishes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from pingvas import db


@pytest.fixture
def port(database: str) -> Iterator[int]:
    """A TCP port that leads to the session's PostgreSQL, which listens on a Unix socket."""
    folder = parse_qs(urlsplit(database).query)["host"][0]
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65_536):
                sink.sendall(received)
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(f"{folder}/.s.PGSQL.5432")
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=pass_on, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def test_a_server_that_vanished_is_noticed_within_half_a_minute(port: int) -> None:
    """Half open: the kernel asks the other side, since libpq itself waits for an answer for ever."""
    url = f"postgresql://pingvas@127.0.0.1:{port}/pingvas"
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    with (
        psycopg.connect(url, **db.CONNECT) as connection,  # type: ignore[arg-type]
        socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as line,
    ):
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, pause, times, unacknowledged = (
            line.getsockopt(socket.IPPROTO_TCP, option) for option in options
        )
    assert idle + pause * times <= 30
    assert 0 < unacknowledged <= 30_000
