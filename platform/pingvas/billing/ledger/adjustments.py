"""Credits that operators give and take back."""

from uuid import UUID

from pingvas import db
from pingvas.billing.ledger.posting import Account, Type, post
from pingvas.errors import Invalid

MAX_GRANT = 10**12


def grant(
    user_id: UUID,
    amount: int,
    *,
    business_key: str,
    type: str = Type.ADJUSTMENT,  # noqa: A002 (the contract's name)
    description: str = "",
    actor: str | None = None,
) -> bool:
    """Give purchased credits (kept until used), or take them back with a negative amount.

    `description` is the reason, which the customer reads; `actor` is who gave them.

    Returns:
        False when this business key has been posted before.

    Raises:
        Invalid: the amount is zero or beyond any wallet.
        InsufficientCredits: more would be taken back than there is.
    """
    if not 0 < abs(amount) <= MAX_GRANT:
        raise Invalid(f"A grant is 1 to {MAX_GRANT} credits, or as many below zero; not {amount}.")
    with db.transaction() as session:
        legs = {Account.PURCHASED: amount, Account.GRANTS: -amount}
        return post(session, user_id, business_key, type, legs, description=description, actor=actor)
