"""The brokers of a world: each can be killed and started, forget everything, and lose its lines."""

import os
import signal
from contextlib import ExitStack
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from pingvas.embedded import DataFolder
from pingvas.embedded import redis as redis_server
from pingvas.events.connection import client
from pingvas.jobs import routing
from pingvas.jobs.dispatch.broker import celery
from tasks.bench import rabbitmq
from tests.chaos.line import Line


class Broker(Protocol):
    """`url` is what programs are told, and leads over `line`."""

    url: str
    line: Line

    def restart(self) -> None:
        """Kill -9 the server and start it on what it had written."""

    def forget(self) -> None:
        """Lose every message."""

    def stop(self) -> None:
        """End for good."""


class Redis:
    """The embedded Redis, which holds events beside messages."""

    def __init__(self, folder: DataFolder, port: int) -> None:
        self._folder, self._port = folder, port
        self._server = redis_server.start(folder, port=port)
        self.line = Line(port)
        self.url = _over(self.line, self._server.url)

    def restart(self) -> None:
        assert self._server.identity
        os.kill(self._server.identity.pid, signal.SIGKILL)
        self._server.stop()
        self._server = redis_server.start(self._folder, port=self._port)

    def forget(self) -> None:
        redis = client(self._server.url)
        assert redis
        redis.flushall()

    def stop(self) -> None:
        self.line.close()
        self._server.stop()


class RabbitMQ:
    """A RabbitMQ of its own, where it is installed; it forgets messages and keeps its queues."""

    def __init__(self) -> None:
        self._cleanup = ExitStack()
        self._server = self._cleanup.enter_context(rabbitmq.running())
        self.line = Line(urlsplit(self._server.url).port or 0)
        self.url = _over(self.line, self._server.url)

    def restart(self) -> None:
        self._server.restart()

    def forget(self) -> None:
        with celery().connection_for_write() as connection:
            for name in (*routing.all_queues(), routing.CONTROL):
                channel: Any = connection.default_channel
                channel.queue_purge(name)

    def stop(self) -> None:
        self.line.close()
        self._cleanup.close()


def _over(line: Line, url: str) -> str:
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{line.port}"))
