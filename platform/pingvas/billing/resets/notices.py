"""Mails about the month: its credits are there, or little of them is left."""

from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from pingvas import clock, db, mail
from pingvas.billing import plans
from pingvas.mail import Letter

LOW_PERCENT: Final = 20

_BEGUN = text("""
    SELECT email, language, users.id, users.tier, allocated, last_reset_at, resets_at FROM wallets
    JOIN users ON users.id = wallets.user_id WHERE wallets.user_id = ANY(:users)""")

_LOW = text("""
    UPDATE wallets SET told_low_at = :now FROM users
    WHERE users.id = wallets.user_id AND wallets.user_id IN (
        SELECT user_id FROM wallets
        WHERE allocated > 0 AND (monthly + purchased) * 100 < allocated * :percent
          AND (told_low_at IS NULL OR told_low_at < last_reset_at)
        LIMIT :most FOR UPDATE SKIP LOCKED)
    RETURNING email, language, users.id, monthly + purchased AS balance, allocated, last_reset_at,
              resets_at""")


def tell_begun(session: Session, users: Collection[UUID]) -> None:
    """Mail users whose months this unit of work has begun."""
    rows = session.execute(_BEGUN, {"users": list(users)})
    values = ((row, {"credits": row.allocated, "plan": plans.of(row.tier).title}) for row in rows)
    mail.send_all(session, "credits-reset", [_letter("credits-reset", *each) for each in values])


def tell_low(most: int = 1_000) -> int:
    """Mail everybody who has less than a fifth of the month's credits left, once a month; return how many."""
    total = 0
    while True:
        with db.transaction() as session:
            rows = session.execute(_LOW, {"now": clock.now(), "percent": LOW_PERCENT, "most": most}).all()
            values = ((row, {"balance": row.balance, "allocation": row.allocated}) for row in rows)
            mail.send_all(session, "credits-low", [_letter("credits-low", *each) for each in values])
        total += len(rows)
        if len(rows) < most:
            return total


def _letter(template: str, row: Any, values: dict[str, object]) -> Letter:
    told = {**values, "resets_on": f"{row.resets_at:%Y-%m-%d}"}
    key = f"{template}:{row.id}:{row.last_reset_at.isoformat()}"
    return Letter(row.email, row.language, told, row.id, key)
