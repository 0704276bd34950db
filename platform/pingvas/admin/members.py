"""Changing accounts by hand, each change and its row of the trail in one unit of work."""

from dataclasses import dataclass
from uuid import UUID

from pingvas import audit, db, ids
from pingvas.accounts import users
from pingvas.accounts.models import User
from pingvas.billing import ledger, wallets
from pingvas.billing.models import Wallet
from pingvas.errors import Conflict, InsufficientCredits


@dataclass(frozen=True)
class Changes:
    """What is to be changed; None: nothing of it."""

    tier: str | None = None
    role: str | None = None
    suspended: bool | None = None


class OnesOwnAccount(Conflict):
    """Nobody takes the role from themselves, or gives it: the last admin would be gone by mistake."""

    code, title = "OWN_ACCOUNT", "This cannot be done to one's own account"


class TooFewCredits(Conflict):
    """More credits would be taken back than there are."""

    code, title = "TOO_FEW_CREDITS", "The account has fewer credits than are to be taken back"


def change(actor: str, user_id: UUID, changes: Changes, reason: str) -> User:
    """Change an account and return it.

    Suspending it cancels what waits, with its holds released, asks workers to stop what runs and ends every
    sign-in. A new plan holds from the next request on; jobs that wait stay on the plan they were sent on.

    Raises:
        NotFound: there is no such account.
        Invalid: there is no such tier.
    """
    with db.transaction() as session:
        ledger.lock(session, user_id)  # as whoever submits does: a job is before the suspension or after it
        user = users.get(session, user_id)
        before = _told(user)
        if changes.tier is not None:
            users.set_tier(session, user_id, changes.tier)
        if changes.role is not None:
            users.set_role(session, user_id, changes.role)
        if changes.suspended is False:
            users.restore(session, user_id)
        elif changes.suspended:
            users.suspend(session, user_id)
        after = {**_told(user), "reason": reason}
        audit.record(session, actor, "users.change", f"user:{user_id}", before=before, after=after)
    return user


def adjust(actor: str, user_id: UUID, amount: int, reason: str) -> Wallet:
    """Give credits that do not expire, or take them back (`amount` below zero); return the wallet.

    Raises:
        NotFound: there is no such account.
        Invalid: the amount is zero or beyond any wallet.
        TooFewCredits: more would be taken back than the account has bought or been given.
    """
    with db.transaction() as session:
        before = ledger.lock(session, user_id)
        key = f"adjustment:{ids.new()}"
        try:
            ledger.grant(user_id, amount, business_key=key, description=reason)
        except InsufficientCredits as error:
            raise TooFewCredits(
                f"{-amount} credits are to be taken back and {before.purchased} are there.",
                required=-amount,
                available=before.purchased,
            ) from error
        wallet = wallets.read(session, user_id)
        audit.record(
            session,
            actor,
            "users.credits",
            f"user:{user_id}",
            before={"purchased": before.purchased},
            after={"purchased": wallet.purchased, "amount": amount, "reason": reason, "business_key": key},
        )
    return wallet


def _told(user: User) -> dict[str, object]:
    return {"tier": user.tier, "role": user.role, "suspended": user.suspended_at is not None}
