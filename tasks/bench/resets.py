"""The monthly reset in chunks against the same statement for all at once, in turns."""

import argparse
import time
from datetime import datetime
from itertools import cycle
from statistics import median

from sqlalchemy import text

from gpu_worker.bench import tables
from pingvas import clock, db
from pingvas.billing import months, resets
from pingvas.billing.resets.run import CHUNK
from tasks.bench import stand

USERS = 100_000
TURNS = "ABABAB"

# Of a hundred, five are on a plan that is paid for, and get a mail.
_USERS = text("""
    INSERT INTO users (id, email, password_hash, tier, created_at)
    SELECT uuidv7(), 'u' || n || '@example.com', '-', CASE WHEN n % 20 = 0 THEN 'starter' ELSE 'free' END,
           :now
    FROM generate_series(1, :users) AS n""")
_WALLETS = text("""
    INSERT INTO wallets (user_id, monthly, purchased, held, last_reset_at, resets_at, anchor_at)
    SELECT id, 0, 0, 0, :now, :now, :now FROM users""")


def main(users: int = USERS) -> None:
    """Measure, and print the table."""
    with stand.running():
        now = clock.now()
        with db.transaction() as session:
            session.execute(_USERS, {"users": users, "now": now})
            session.execute(_WALLETS, {"now": now})
        _analyze()
        _round(months.add(now, 1), None)  # from now on everybody has something that expires
        seconds: dict[str, list[float]] = {"A": [], "B": []}
        for number, (turn, chunk) in enumerate(zip(TURNS, cycle((CHUNK, None)), strict=False)):
            seconds[turn].append(_round(months.add(now, number + 2), chunk))
            _analyze()
    chunks, whole = median(seconds["A"]), median(seconds["B"])
    rows = [
        (f"chunks of {CHUNK}", tables.spread(seconds["A"]), f"{users / chunks:.0f}"),
        ("one statement", tables.spread(seconds["B"]), f"{users / whole:.0f}"),
    ]
    tables.show(f"Resets of {users} users, ledger rows and mails included", ("", "s", "users/s"), rows)
    ratios = [a / b for a, b in zip(seconds["A"], seconds["B"], strict=True)]
    tables.show("Ratio", ("chunks by one statement", "bar"), [(tables.spread(ratios), "<= 1.5")])


def _round(now: datetime, chunk: int | None) -> float:
    began = time.perf_counter()
    while resets.reset_chunk(now, chunk):
        pass
    return time.perf_counter() - began


def _analyze() -> None:
    with db.transaction() as session:
        session.execute(text("ANALYZE"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tasks.bench.resets", description=__doc__)
    parser.add_argument("--users", type=int, default=USERS)
    main(parser.parse_args().users)
