"""The object stores of a world: a folder that cannot be written, and an S3 that cannot be reached."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from pingvas.embedded import DataFolder, process
from tests.chaos.line import Line

_START_SECONDS: Final = 60.0
_BUCKET: Final = "pictures"


class Store(Protocol):
    """`environment` is what programs are told."""

    environment: dict[str, str]

    def broken(self, pids: list[int]) -> AbstractContextManager[None]:
        """Keep programs from writing for the length of the block."""

    def stop(self) -> None:
        """End for good."""


class Folder:
    """The local folder; out of order it shows programs a full disk, root's too."""

    environment: dict[str, str] = {}  # noqa: RUF012 (nothing to tell)

    @contextmanager
    def broken(self, pids: list[int]) -> Iterator[None]:
        limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
        for pid, (_, most) in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
        yield
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)

    def stop(self) -> None:
        pass


class S3:
    """A moto server; out of order it refuses connections."""

    def __init__(self, folder: DataFolder, port: int) -> None:
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._server = process.spawn(argv, log=folder.log("s3"), cwd=folder.path, env=None)
        self._line = Line(port)
        self.environment = {
            "S3_BUCKET": _BUCKET,
            "S3_ENDPOINT_URL": f"http://127.0.0.1:{self._line.port}",
            "S3_ACCESS_KEY_ID": "chaos",
            "S3_SECRET_ACCESS_KEY": "chaos",
        }
        _until_there(lambda: _make_bucket(port))

    @contextmanager
    def broken(self, pids: list[int]) -> Iterator[None]:
        self._line.refuse(True)
        yield
        self._line.refuse(False)

    def stop(self) -> None:
        self._line.close()
        self._server.terminate()
        process.wait_or_kill(self._server, 10)


def _make_bucket(port: int) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="chaos",
        aws_secret_access_key="chaos",
        config=Config(retries={"total_max_attempts": 1}),
    )
    client.create_bucket(Bucket=_BUCKET)


def _until_there(ask: Callable[[], None]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return ask()
        except BotoCoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
