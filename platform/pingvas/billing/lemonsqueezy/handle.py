"""What each webhook means. The facts in it are recorded; what they come to is decided elsewhere."""

from collections.abc import Callable
from functools import partial
from uuid import UUID

from sqlalchemy.orm import Session

from pingvas.accounts.models import User
from pingvas.billing import ledger, plans
from pingvas.billing.lemonsqueezy import variants
from pingvas.billing.lemonsqueezy.payloads import (
    Envelope,
    InvoiceEvent,
    Meta,
    OrderEvent,
    SubscriptionEvent,
)
from pingvas.billing.lemonsqueezy.variants import PlanVariant
from pingvas.billing.subscriptions import changes, notices, purchases
from pingvas.billing.subscriptions.decide import Payment, Snapshot
from pingvas.billing.subscriptions.purchases import Order


class NotYet(Exception):
    """The event cannot be handled now: it is kept, and tried again. The text says what is missing."""


def handle(session: Session, body: bytes) -> str:
    """Do what a webhook asks for, in the caller's unit of work; return what came of it, in a word.

    Raises:
        NotYet: something that it needs is not known yet.
        pydantic.ValidationError: it is not of the documented shape.
    """
    name = Envelope.model_validate_json(body).meta.event_name
    handler = _HANDLERS.get(name)
    return handler(session, body) if handler else f"unknown event {name}"


def _subscription(session: Session, body: bytes) -> str:
    event = SubscriptionEvent.model_validate_json(body)
    seen = event.data.attributes
    variant = variants.of_id(seen.variant_id)
    known = changes.find(session, event.data.id)
    if not isinstance(variant, PlanVariant):
        if known is None and not _is_ours(event.meta):
            return f"not of this service: variant {seen.variant_id}"
        raise NotYet(f"variant {seen.variant_id} is no plan of the settings")
    user_id = known.user_id if known else _user(session, event.meta)
    snapshot = Snapshot(
        provider_id=event.data.id,
        status=seen.status,
        tier=variant.tier,
        interval=variant.interval,
        created_at=seen.created_at,
        updated_at=seen.updated_at,
        renews_at=seen.renews_at,
        ends_at=seen.ends_at,
        billing_day=seen.billing_anchor,
    )
    if not changes.note_snapshot(session, user_id, snapshot):
        return "older than what is known"
    changes.settle(session, user_id)
    return "done"


def _payment(paid: bool, session: Session, body: bytes) -> str:
    event = InvoiceEvent.model_validate_json(body)
    invoice = event.data.attributes
    # Invoices may come without custom data: the subscription says whose they are.
    row = changes.find(session, invoice.subscription_id)
    if row is None:
        raise NotYet(f"subscription {invoice.subscription_id} is not known")
    ledger.lock(session, row.user_id)
    if not changes.note_payment(session, row, event.data.id, Payment(paid, invoice.updated_at)):
        return "known already"
    if not paid:
        attempt = f"{event.data.id}:{invoice.updated_at.isoformat()}"
        notices.payment_failed(session, session.get_one(User, row.user_id), row, attempt)
    changes.settle(session, row.user_id)
    return "done"


def _order(session: Session, body: bytes) -> str:
    event = OrderEvent.model_validate_json(body)
    order = event.data.attributes
    variant = variants.of_id(order.first_order_item.variant_id)
    if isinstance(variant, PlanVariant):
        return "an order of a subscription, which has events of its own"
    if variant is None or variant.package not in plans.prices().packages:
        if not _is_ours(event.meta):
            return f"not of this service: variant {order.first_order_item.variant_id}"
        raise NotYet(f"variant {order.first_order_item.variant_id} is no package of the settings")
    if order.status not in ("paid", "refunded", "partial_refund"):
        return f"not paid: {order.status}"
    package = plans.prices().packages[variant.package]
    new = purchases.take_in(
        session,
        _user(session, event.meta),
        Order(
            order_id=event.data.id,
            credits=package.credits * order.first_order_item.quantity,
            total=order.total,
            refunded=order.refunded_amount,
            # Without amounts, as of older stores, a refund is one of everything.
            fully_refunded=order.status == "refunded" or (order.refunded and not order.refunded_amount),
            created_at=order.created_at,
        ),
    )
    return "done" if new else "known already"


def _is_ours(meta: Meta) -> bool:
    # A store may sell other things as well; our checkouts say who buys.
    return "user_id" in (meta.custom_data or {})


def _user(session: Session, meta: Meta) -> UUID:
    text = str((meta.custom_data or {}).get("user_id", ""))
    try:
        user = session.get(User, UUID(text))
    except ValueError:
        user = None
    if user is None:
        raise NotYet(f"no user {text!r}")
    return user.id


_HANDLERS: dict[str, Callable[[Session, bytes], str]] = {
    "order_created": _order,
    "order_refunded": _order,
    "subscription_created": _subscription,
    "subscription_updated": _subscription,
    "subscription_cancelled": _subscription,
    "subscription_resumed": _subscription,
    "subscription_expired": _subscription,
    "subscription_paused": _subscription,
    "subscription_unpaused": _subscription,
    "subscription_plan_changed": _subscription,
    "subscription_payment_success": partial(_payment, True),
    "subscription_payment_recovered": partial(_payment, True),
    "subscription_payment_failed": partial(_payment, False),
}
