"""What row-level security costs: the API's reads in its own role, and in one that no policy binds."""

import time
from itertools import islice
from statistics import median
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from sqlalchemy import text

from gpu_worker.bench import tables
from pingvas import db, ids, roles, settings
from pingvas.embedded import postgres
from tasks.bench import stand
from tasks.bench.backlog import BACKLOG
from tasks.bench.post import customers

JOBS, USERS = 200_000, 2_000
TIMES, TURNS = 2_000, "ABBAAB"

READS: Final[dict[str, LiteralString]] = {
    "20 newest jobs": "SELECT * FROM jobs WHERE user_id = %s ORDER BY id DESC LIMIT 20",
    "balance": "SELECT * FROM wallets WHERE user_id = %s",
}


def main() -> None:
    """Print the table."""
    with stand.running():
        customers(USERS)
        with db.transaction() as session:
            now = session.scalar(text("SELECT now()"))
            values = {"ids": [ids.new() for _ in range(JOBS)], "now": now, "owners": USERS}
            session.execute(BACKLOG, values)
            users = list(session.scalars(text("SELECT id FROM users")))
        url = settings.get().database_url
        with db.engine().connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
        rows = []
        with _connected(url, roles.API) as bound, _connected(url, "postgres") as unbound:
            for name, read in READS.items():
                seconds: dict[str, list[float]] = {"A": [], "B": []}
                for turn in TURNS:
                    seconds[turn].append(_round(bound if turn == "A" else unbound, read, users))
                ratios = [a / b for a, b in zip(seconds["A"], seconds["B"], strict=True)]
                times = (tables.spread([each * 1e3 for each in seconds[turn]], " ms") for turn in "AB")
                rows.append((name, *times, tables.spread(ratios)))
        tables.show(
            f"Reads among {JOBS} jobs of {USERS} users, one connection",
            ("", "policies", "none", "ratio"),
            rows,
        )


def _connected(url: str, role: str) -> "psycopg.Connection[Any]":
    return psycopg.connect(postgres.as_role(url, role))


def _round(connection: "psycopg.Connection[Any]", read: LiteralString, users: list[UUID]) -> float:
    """Return the median seconds of a read in a transaction that says who acts, as the API's do."""
    taken = []
    for user in islice(users, TIMES):
        began = time.perf_counter()
        with connection.transaction():
            connection.execute("SELECT set_config('pingvas.user', %s, true)", [str(user)])
            found = connection.execute(read, [user]).fetchall()
        taken.append(time.perf_counter() - began)
        assert found
    return median(taken)


if __name__ == "__main__":
    main()
