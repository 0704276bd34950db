"""Single statements without SQLAlchemy: connections of psycopg's own, each statement its own transaction."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import namedtuple_row

TRUSTED_SECONDS: Final = 1.0
"""A connection that was used so recently is taken to be alive."""


class Statements:
    """Connections in autocommit, one for each thread that runs a statement at the same moment."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url = url
        self._options = dict(options)
        self._spare: deque[tuple[float, psycopg.Connection[Any]]] = deque()  # its ends need no lock

    def run(self, sql: LiteralString, values: Mapping[str, Any]) -> Sequence[Any]:
        """Run a statement and return its rows as named tuples.

        Raises:
            psycopg.Error: the database refuses it or is away.
        """
        connection = self._connection()
        try:
            rows = fetch(connection, sql, values)
        except BaseException:
            connection.close()  # in a state that nobody knows
            raise
        self._spare.append((time.monotonic(), connection))
        return rows

    def _connection(self) -> "psycopg.Connection[Any]":
        while self._spare:
            rests_since, connection = self._spare.pop()  # the last one used: its server process is warm
            if time.monotonic() - rests_since < TRUSTED_SECONDS or _is_alive(connection):
                return connection
            connection.close()
        return psycopg.connect(self._url, autocommit=True, **self._options)

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._spare:
            self._spare.pop()[1].close()


def fetch(
    connection: "psycopg.Connection[Any]", sql: LiteralString, values: Mapping[str, Any]
) -> Sequence[Any]:
    """Run a statement on a connection and return its rows as named tuples."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(sql, values).fetchall()


def _is_alive(connection: "psycopg.Connection[Any]") -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
