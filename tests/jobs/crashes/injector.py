"""A process that dies at its n-th statement: counted in psycopg, where all of them go through."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
import pytest

from pingvas import settings


class Crash(BaseException):
    """The process ends here: nothing that handles errors may stop it."""


class How(StrEnum):
    """`DEATH` is of this process, right after the statement; `CUT` is of its connection, right before it."""

    DEATH = "death"
    CUT = "cut"


@dataclass
class Injector:
    """Counts this thread's statements and commits, and crashes at the n-th."""

    at: int
    how: How
    seen: int = 0

    @property
    def fired(self) -> bool:
        """Whether there was an n-th statement."""
        return self.seen >= self.at

    def around(self, connection: "psycopg.Connection[Any]", run: Any) -> Any:
        """Run one statement or commit."""
        self.seen += 1
        if self.seen != self.at:
            return run()
        if self.how is How.CUT:
            _cut(connection)
        done = run()
        if self.how is How.DEATH:
            raise Crash
        return done


@contextmanager
def crashing(at: int, how: How) -> Iterator[Injector]:
    """Crash at the n-th statement of this thread within the block."""
    injector, mine = Injector(at, how), threading.get_ident()
    patch = pytest.MonkeyPatch()
    execute, commit = psycopg.Cursor.execute, psycopg.Connection.commit

    def executed(cursor: Any, *args: Any, **options: Any) -> Any:
        if threading.get_ident() != mine:
            return execute(cursor, *args, **options)
        return injector.around(cursor.connection, lambda: execute(cursor, *args, **options))

    def committed(connection: Any) -> None:
        if threading.get_ident() != mine:
            return commit(connection)
        return injector.around(connection, lambda: commit(connection))  # type: ignore[no-any-return]

    with patch.context() as patched:
        patched.setattr(psycopg.Cursor, "execute", executed)
        patched.setattr(psycopg.Connection, "commit", committed)
        yield injector


def _cut(connection: "psycopg.Connection[Any]") -> None:
    """Let the server end the connection, and wait until it has."""
    url = settings.get().database_url.replace("+psycopg", "", 1)
    with _uncounted(url) as other:
        other.pgconn.exec_(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)".encode())


@contextmanager
def _uncounted(url: str) -> Iterator["psycopg.Connection[Any]"]:
    """Connect for statements of libpq's own, which nobody counts."""
    connection = psycopg.connect(url, autocommit=True)
    try:
        yield connection
    finally:
        connection.close()
