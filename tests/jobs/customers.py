"""Customers for tests that need many: without the cost of hashing a password."""

from uuid import UUID

from pingvas import db, ids
from pingvas.accounts.models import User
from pingvas.billing import ledger, wallets


def customer(tier: str, purchased: int = 0) -> UUID:
    """Register a customer of a plan, with purchased credits beside the plan's own."""
    user = User(email=f"{ids.new()}@example.com", password_hash="-", tier=tier)
    with db.transaction() as session:
        session.add(user)
        wallets.open_wallet(session, user)
    if purchased:
        ledger.grant(user.id, purchased, business_key=f"gift:{user.id}")
    return user.id
