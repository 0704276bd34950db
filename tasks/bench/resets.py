"""The monthly reset in chunks, one or some at a time, and the same statement for all at once, in turns."""

import argparse
import time
from datetime import datetime
from statistics import median

from sqlalchemy import text

from gpu_worker.bench import tables
from pingvas import clock, db
from pingvas.billing import months, resets
from pingvas.billing.resets.run import AT_ONCE, CHUNK
from tasks.bench import stand

USERS = 100_000
TURNS = "ABCCBA"
MANY, TURNS_OF_MANY = 300_000, "BC"  # the first has it easier: it finds an empty ledger

# Of a hundred, five are on a plan that is paid for, and get a mail.
_USERS = text("""
    INSERT INTO users (id, email, password_hash, tier, created_at)
    SELECT uuidv7(), 'u' || n || '@example.com', '-', CASE WHEN n % 20 = 0 THEN 'starter' ELSE 'free' END,
           :now
    FROM generate_series(1, :users) AS n""")
_WALLETS = text("""
    INSERT INTO wallets (user_id, monthly, purchased, held, last_reset_at, resets_at, anchor_at)
    SELECT id, 50, 10, 0, :now, :now, :now FROM users""")


def main(users: int = USERS) -> None:
    """Measure, and print the table."""
    turns = TURNS if users < MANY else TURNS_OF_MANY
    with stand.running() as servers:
        postgres = servers.servers["postgres"]
        now = clock.now()
        with db.transaction() as session:
            session.execute(_USERS, {"users": users, "now": now})
            session.execute(_WALLETS, {"now": now})
        seconds: dict[str, list[float]] = {turn: [] for turn in turns}
        busy: dict[str, list[float]] = {turn: [] for turn in turns}
        for number, turn in enumerate(turns, 1):
            _vacuum()
            before = stand.cpu_seconds(postgres)
            seconds[turn].append(_round(months.add(now, number), turn))
            busy[turn].append(stand.cpu_seconds(postgres) - before)
    names = {"A": f"chunks of {CHUNK}", "B": "one statement", "C": f"chunks, {AT_ONCE} at a time"}
    rows = [
        (name, *map(tables.spread, (seconds[turn], busy[turn])), f"{median(seconds[turn]) / users * 1e6:.0f}")
        for turn, name in names.items()
        if turn in turns
    ]
    title = f"Resets of {users} users, ledger rows and mails included"
    tables.show(title, ("", "s", "the database's processor, s", "s for a million"), rows)
    ratios = [
        (
            names[turn],
            unit,
            tables.spread([a / b for a, b in zip(taken[turn], taken["B"], strict=True)]),
            "<= 1.5",
        )
        for turn in sorted(set(turns) - {"B"})
        for unit, taken in (("time", seconds), ("processor", busy))
    ]
    tables.show("Ratio to one statement", ("", "", "", "bar"), ratios)


def _round(now: datetime, turn: str) -> float:
    began = time.perf_counter()
    if turn == "B":
        resets.reset_chunk(now, None)
    else:
        resets.reset_all(now, CHUNK, AT_ONCE if turn == "C" else 1)
    return time.perf_counter() - began


def _vacuum() -> None:
    """Let no round pay for tidying up after the one before."""
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tasks.bench.resets", description=__doc__)
    parser.add_argument("--users", type=int, default=USERS)
    main(parser.parse_args().users)
