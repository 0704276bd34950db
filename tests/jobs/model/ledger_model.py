"""The model: what a job and a wallet are, without a database."""

from dataclasses import dataclass, field
from uuid import UUID

OPEN = ("pending", "in_progress")
LEGAL = {
    ("pending", "in_progress"),
    ("pending", "cancelled"),
    ("in_progress", "pending"),
    ("in_progress", "completed"),
    ("in_progress", "failed"),
    ("in_progress", "cancelled"),
}


@dataclass
class Wallet:
    """Balances in credits; a metered one moves only in what is owed."""

    monthly: int
    purchased: int
    metered: bool
    owed: int = 0
    held: int = 0


@dataclass
class Job:
    """A job of `wallet`, which holds `monthly` and `purchased` credits for it until it ends."""

    id: UUID
    user_id: UUID
    wallet: Wallet
    quote: int
    status: str = "pending"
    attempt: int = 0
    failures: int = 0
    losses: int = 0  # workers that were lost with it, or with the jobs it replays
    alone: bool = False  # its running attempt has the worker to itself
    due: bool = True
    cancel_asked: bool = False
    charge: int | None = None
    dead: bool = False  # has an open dead letter
    held: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        wallet, quote = self.wallet, 0 if self.wallet.metered else self.quote
        monthly = min(quote, wallet.monthly)
        self.held = monthly, quote - monthly
        wallet.monthly, wallet.purchased = wallet.monthly - monthly, wallet.purchased - self.held[1]
        wallet.held += quote

    def end(self, status: str, cost: int = 0) -> None:
        """Release the whole hold, then charge: monthly credits first, never above the quote."""
        self.status, self.charge = status, min(cost, self.quote)
        wallet, (monthly, purchased) = self.wallet, self.held
        wallet.held -= monthly + purchased
        if wallet.metered:
            wallet.owed += self.charge
            return
        from_monthly = min(self.charge, monthly)
        wallet.monthly += monthly - from_monthly
        wallet.purchased += purchased - (self.charge - from_monthly)

    def give_back(self, delay: int) -> None:
        """Wait again, unless the customer has asked for the end meanwhile."""
        if self.cancel_asked:
            self.end("cancelled")
        else:
            self.status, self.due = "pending", delay == 0

    def fail(self, *, retryable: bool, letter: bool, most_attempts: int, delays: tuple[int, ...]) -> None:
        """Fail the running attempt."""
        self.failures += 1
        if self.cancel_asked or (retryable and self.failures < most_attempts):
            self.give_back(delays[min(self.failures - 1, len(delays) - 1)])
        else:
            self.end("failed")
            self.dead = letter
