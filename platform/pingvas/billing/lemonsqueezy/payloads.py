"""Webhooks as documented at docs.lemonsqueezy.com/help/webhooks; only the fields that are used.

The shapes are JSON:API's. Ids are strings at `data.id` and integers elsewhere;
money is in cents, times are ISO 8601 in UTC.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Id = Annotated[str, BeforeValidator(str), Field(min_length=1, max_length=64)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Meta(_Part):
    """What is told of the event itself; `custom_data` is what the checkout was made with."""

    event_name: str = Field(max_length=100)
    custom_data: dict[str, Any] | None = None


class Envelope(_Part):
    """The part that all webhooks have."""

    meta: Meta


class SubscriptionAttributes(_Part):
    """A subscription."""

    variant_id: Id
    status: Literal["on_trial", "active", "past_due", "unpaid", "paused", "cancelled", "expired"]
    billing_anchor: int | None = Field(None, ge=1, le=31)
    renews_at: datetime | None
    ends_at: datetime | None
    created_at: datetime
    updated_at: datetime


class SubscriptionData(_Part):
    """A subscription with its id."""

    id: Id
    attributes: SubscriptionAttributes


class SubscriptionEvent(Envelope):
    """subscription_created, _updated, _cancelled, _resumed, _expired, _paused, _unpaused, _plan_changed."""

    data: SubscriptionData


class InvoiceAttributes(_Part):
    """An invoice of a subscription."""

    subscription_id: Id
    created_at: datetime
    updated_at: datetime


class InvoiceData(_Part):
    """An invoice with its id."""

    id: Id
    attributes: InvoiceAttributes


class InvoiceEvent(Envelope):
    """subscription_payment_success, _failed, _recovered."""

    data: InvoiceData


class OrderItem(_Part):
    """What an order is of."""

    variant_id: Id
    quantity: int = Field(1, ge=1, le=1_000)


class OrderAttributes(_Part):
    """An order; `refunded_amount` is the sum of all its refunds."""

    status: str
    total: int = Field(ge=0)
    refunded: bool = False
    refunded_amount: int = Field(0, ge=0)
    first_order_item: OrderItem
    created_at: datetime


class OrderData(_Part):
    """An order with its id."""

    id: Id
    attributes: OrderAttributes


class OrderEvent(Envelope):
    """order_created, order_refunded."""

    data: OrderData
