"""Statements: a customer's transactions of a month, what contracts used, what refunds could not take back."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from pingvas import clock
from pingvas.billing import months

LINE: Final = ("time", "type", "amount", "balance_after", "job", "description", "actor")
USAGE: Final = ("user", "email", "jobs", "credits")

_LINES = text("""
    SELECT created_at, type, amount, balance_after, job_id, description, actor FROM ledger_transactions
    WHERE user_id = :user AND created_at >= :start AND created_at < :end ORDER BY created_at, id""")

# Metered charges are those that went to the user's receivable.
_USAGE = text("""
    SELECT users.id, users.email, count(DISTINCT t.job_id), -sum(e.amount)
    FROM ledger_transactions t
    JOIN ledger_entries e ON e.transaction_id = t.id AND e.account = 'receivable'
    JOIN users ON users.id = t.user_id
    WHERE t.created_at >= :start AND t.created_at < :end
    GROUP BY users.id, users.email ORDER BY users.email""")

SHORTFALL: Final = ("order", "user", "email", "credits", "taken", "shortfall", "held")

_SHORTFALLS = text("""
    SELECT order_id, users.id, users.email, credits, taken, shortfall, wallets.held
    FROM purchases JOIN users ON users.id = user_id JOIN wallets USING (user_id)
    WHERE shortfall > 0 ORDER BY purchases.created_at""")

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def lines(session: Session, user_id: UUID, first: datetime) -> list[tuple[object, ...]]:
    """Return a user's transactions of the month that begins at `first`, the oldest first; see `LINE`."""
    values = {"user": user_id, "start": first, "end": months.add(first, 1)}
    return [
        (clock.rfc3339(row[0]), *row[1:4], row[4] or "", _plain(row[5]), _plain(row[6] or ""))
        for row in session.execute(_LINES, values)
    ]


def usage(session: Session, first: datetime) -> list[tuple[object, ...]]:
    """Return what each metered account used in the month that begins at `first`; see `USAGE`."""
    rows = session.execute(_USAGE, {"start": first, "end": months.add(first, 1)})
    return [(str(row[0]), _plain(row[1]), row[2], row[3]) for row in rows]


def shortfalls(session: Session) -> list[tuple[object, ...]]:
    """Return the refunded orders whose credits could not all be taken back; see `SHORTFALL`."""
    return [(row[0], str(row[1]), _plain(row[2]), *row[3:]) for row in session.execute(_SHORTFALLS)]


def _plain(cell: str) -> str:
    # A spreadsheet must not take a text for a formula.
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
