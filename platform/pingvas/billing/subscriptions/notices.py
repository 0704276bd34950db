"""Mails about payments."""

from sqlalchemy.orm import Session

from pingvas.accounts.models import User
from pingvas.billing.subscriptions.models import Subscription


def ended(session: Session, user: User, row: Subscription) -> None:
    """Tell a user that a plan is over."""


def payment_failed(session: Session, user: User, row: Subscription, invoice_id: str) -> None:
    """Tell a user that a payment failed."""
