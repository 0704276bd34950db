"""A worker whose connection to the broker breaks or falls silent, and what it takes afterwards."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tasks.bench import driver
from tasks.bench.driver import Work


class Line:
    """A way to the broker that can be cut or fall silent; what connects afterwards gets through again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._open += near, far
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65_536):
                if source not in self._silent:
                    sink.sendall(received)

    def fall_silent(self) -> None:
        """Pass nothing on any more and close nothing, as a firewall that forgets does."""
        self._silent.update(self._open)

    def cut(self) -> None:
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()


@pytest.fixture
def line(broker_url: str) -> Iterator[Line]:
    line = Line(urlsplit(broker_url).port or 0)
    yield line
    line.close()


def test_all_places_are_taken_again(broker_url: str, broker: str, line: Line) -> None:
    over = broker_url.replace(f":{urlsplit(broker_url).port}", f":{line.port}")
    with driver.running(broker_url, environment={"BROKER_URL": over}) as worker:
        worker.send([Work("free", "running", seconds=1.0)])
        assert worker.labels(1) == ["running"]
        line.cut()
        worker.send(Work(tier, tier) for tier in ("pro", "studio"))
        awaited = {"pro", "studio"}
        while awaited:  # what was not acknowledged may come a second time
            awaited -= set(worker.labels(1))
        worker.drop()
        with worker.held():
            worker.ping()


NOTICED_SECONDS = 30.0


def test_a_silent_line_is_noticed(broker_url: str, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither side is told. What was taken from Redis meanwhile is gone: only its row brings it back."""
    over = broker_url.replace(f":{urlsplit(broker_url).port}", f":{line.port}")
    with driver.running(broker_url, environment={"BROKER_URL": over}) as worker:
        worker.ping()
        line.fall_silent()
        worker.send(Work("free", str(number)) for number in range(driver.PLACES + 2))
        monkeypatch.setattr(driver, "SILENCE_SECONDS", NOTICED_SECONDS)
        assert worker.labels(1)
        with suppress(TimeoutError):  # RabbitMQ brings all of them; the others must find its queues empty
            worker.labels(driver.PLACES + 1)
        worker.drop()
