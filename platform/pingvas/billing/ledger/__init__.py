"""The double-entry ledger. Nothing here but `grant` commits: callers bring the unit of work."""

from pingvas.billing.ledger.adjustments import MAX_GRANT, grant
from pingvas.billing.ledger.holds import settle
from pingvas.billing.ledger.posting import Account, Balances, Legs, Type, draw, lock, post

__all__ = [
    "MAX_GRANT",
    "Account",
    "Balances",
    "Legs",
    "Type",
    "draw",
    "grant",
    "lock",
    "post",
    "settle",
]
