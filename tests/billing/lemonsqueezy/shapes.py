"""Webhooks in the shape that Lemon Squeezy documents: the objects of `payloads/`, with a test's values."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.billing.conftest import START, event

_PAYLOADS = Path(__file__).with_name("payloads")
VARIANT = {"starter": 11, "pro": 13, "studio": 15, "1000": 21, "5000": 22}
YEARLY = {"starter": 12, "pro": 14, "studio": 16}


def stamp(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else None


def at(minutes: float) -> datetime:
    """Return the moment so many minutes after the start."""
    return START + timedelta(minutes=minutes)


def _recorded(name: str, id_: int, values: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((_PAYLOADS / f"{name}.json").read_text())
    assert values.keys() <= data["attributes"].keys()
    return {**data, "id": str(id_), "attributes": {**data["attributes"], **values}}


def subscription(
    name: str,
    user_id: UUID | None,
    *,
    plan: str = "starter",
    minutes: float = 0,
    status: str = "active",
    ends_at: datetime | None = None,
    renews_at: datetime | None = None,
    yearly: bool = False,
    id_: int = 77,
) -> bytes:
    """Return a `subscription_<name>`; `minutes` after the start is when the shop changed it."""
    values = {
        "variant_id": (YEARLY if yearly else VARIANT)[plan],
        "status": status,
        "ends_at": stamp(ends_at),
        "renews_at": stamp(renews_at or START.replace(month=2, day=28)),
        "updated_at": stamp(at(minutes)),
    }
    return event(f"subscription_{name}", _recorded("subscription", id_, values), user_id)


def payment(name: str, *, minutes: float, invoice: int = 5, subscription_id: int = 77) -> bytes:
    """Return a `subscription_payment_<name>`, which comes without custom data."""
    values = {"subscription_id": subscription_id, "updated_at": stamp(at(minutes))}
    return event(f"subscription_payment_{name}", _recorded("invoice", invoice, values), None)


def order(
    name: str,
    user_id: UUID | None,
    *,
    package: str = "1000",
    status: str = "paid",
    refunded: int = 0,
    total: int = 1_000,
    id_: int = 9,
) -> bytes:
    """Return an `order_<name>`; amounts in cents."""
    data = _recorded("order", id_, {"status": status, "refunded_amount": refunded, "total": total})
    data["attributes"]["refunded"] = refunded == total
    data["attributes"]["first_order_item"]["variant_id"] = VARIANT[package]
    return event(f"order_{name}", data, user_id)
