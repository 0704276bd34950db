"""Mails about payments, in the unit of work of what they tell."""

from sqlalchemy.orm import Session

from pingvas import mail
from pingvas.accounts.models import User
from pingvas.billing import plans
from pingvas.billing.subscriptions.models import Subscription


def ended(session: Session, user: User, row: Subscription) -> None:
    """Tell a user that a plan is over."""
    _send(session, user, row, "subscription-ended", f"subscription-ended:{row.provider_id}:{row.changes}")


def payment_failed(session: Session, user: User, row: Subscription, attempt: str) -> None:
    """Tell a user that a payment failed, each attempt once."""
    _send(session, user, row, "payment-failed", f"payment-failed:{row.provider_id}:{attempt}")


def _send(session: Session, user: User, row: Subscription, template: str, key: str) -> None:
    mail.send(
        session,
        template,
        to=user.email,
        language=user.language,
        values={"plan": plans.of(row.tier).title},
        user_id=user.id,
        key=key,
    )
