"""What the stand-in sells and has sold: checkouts, orders, subscriptions, invoices, in the API's shapes."""

from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

from pingvas import clock, ids
from pingvas.billing import months, plans
from pingvas.billing.lemonsqueezy.standin.courier import Courier
from pingvas.billing.lemonsqueezy.variants import SOLD

ACTIONS = ("renew", "fail", "recover", "pause", "unpause", "cancel", "resume", "expire")


@dataclass(frozen=True)
class Item:
    """Something to buy; the price is in cents, `interval` of a subscription only."""

    name: str
    price: int
    interval: str | None = None


@dataclass
class Checkout:
    """A page to pay on."""

    variant_id: str
    email: str
    custom: dict[str, Any]
    redirect_url: str | None


def catalogue() -> dict[str, Item]:
    """Return what there is by variant id: all plans that are sold, and all packages."""
    found, number = {}, count(11)
    for tier in SOLD:
        plan = plans.of(tier)
        found[str(next(number))] = Item(f"{tier}/month", plan.price_monthly * 100, "month")
        found[str(next(number))] = Item(f"{tier}/year", plan.price_yearly * 100, "year")
    for name, package in plans.prices().packages.items():
        found[str(next(number))] = Item(name, package.price * 100)
    return found


@dataclass
class Shop:
    """The shop; `url` is where its pages are."""

    courier: Courier
    url: str
    items: dict[str, Item] = field(default_factory=catalogue)
    checkouts: dict[str, Checkout] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    subscriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    customs: dict[str, dict[str, Any]] = field(default_factory=dict)
    numbers: "count[int]" = field(default_factory=lambda: count(1_001))

    @property
    def variants(self) -> str:
        """The setting that names this shop's variants."""
        return ",".join(f"{item.name}={id_}" for id_, item in self.items.items())

    def open_checkout(self, checkout: Checkout) -> str:
        """Make a page to pay on; return its id."""
        id_ = str(ids.new())
        self.checkouts[id_] = checkout
        return id_

    def pay(self, checkout: Checkout) -> None:
        """Sell: an order, and of a plan the subscription and its first invoice."""
        item, number, now = self.items[checkout.variant_id], next(self.numbers), clock.now()
        order = _order(number, checkout, item, now)
        self.orders[order["id"]] = order
        self.customs[f"orders/{order['id']}"] = checkout.custom
        self.courier.take("order_created", order, checkout.custom)
        if item.interval:
            row = _subscription(next(self.numbers), number, checkout, item, now)
            row["attributes"]["urls"] = {
                "customer_portal": f"{self.url}/portal/{row['id']}",
                "update_payment_method": f"{self.url}/portal/{row['id']}",
            }
            self.subscriptions[row["id"]] = row
            self.customs[f"subscriptions/{row['id']}"] = checkout.custom
            self._tell("created", row)
            self._invoice(row, "success", "initial")

    def refund(self, order_id: str) -> None:
        """Pay an order back."""
        order = self.orders[order_id]
        order["attributes"] |= {
            "status": "refunded",
            "refunded": True,
            "refunded_amount": order["attributes"]["total"],
            "refunded_at": _stamp(clock.now()),
            "updated_at": _stamp(clock.now()),
        }
        self.courier.take("order_refunded", order, self.customs[f"orders/{order_id}"])

    def act(self, subscription_id: str, action: str) -> None:
        """Do one of `ACTIONS` to a subscription, or `change:<variant id>`.

        Raises:
            KeyError: there is no such subscription or action.
        """
        row = self.subscriptions[subscription_id]
        if action in ("renew", "fail", "recover"):
            self._collect(row, action)
        elif action.startswith("change:"):
            item = self.items[action.removeprefix("change:")]
            self._change(row, "plan_changed", variant_id=int(action.removeprefix("change:")))
            row["attributes"]["variant_name"] = item.name
        else:
            event, values = _CHANGES[action]
            more = dict(values)
            if action == "cancel":
                more["ends_at"] = row["attributes"]["renews_at"]
            if action == "expire":
                more["ends_at"] = _stamp(clock.now())
            self._change(row, event, **more)

    def _collect(self, row: dict[str, Any], action: str) -> None:
        status = {"renew": "active", "fail": "past_due", "recover": "active"}[action]
        if action != "fail":
            interval = self.items[str(row["attributes"]["variant_id"])].interval
            renewed = datetime.fromisoformat(row["attributes"]["renews_at"])
            later = months.add(renewed, 12 if interval == "year" else 1)
            row["attributes"]["renews_at"] = _stamp(later)
        outcome = {"renew": "success", "fail": "failed", "recover": "recovered"}[action]
        self._invoice(row, outcome, "renewal")
        self._change(row, "updated", status=status)

    def _change(self, row: dict[str, Any], event: str, **values: Any) -> None:
        row["attributes"] |= {**values, "updated_at": _stamp(clock.now())}
        self._tell(event, row)
        if event != "updated":  # the shop sends this one with each of the others
            self._tell("updated", row)

    def _tell(self, event: str, row: dict[str, Any]) -> None:
        self.courier.take(f"subscription_{event}", row, self.customs[f"subscriptions/{row['id']}"])

    def _invoice(self, row: dict[str, Any], outcome: str, reason: str) -> None:
        total = self.items[str(row["attributes"]["variant_id"])].price
        attributes = {
            "store_id": 1,
            "subscription_id": int(row["id"]),
            "billing_reason": reason,
            "status": "pending" if outcome == "failed" else "paid",
            "total": total,
            "currency": "USD",
            "refunded": False,
            "created_at": _stamp(clock.now()),
            "updated_at": _stamp(clock.now()),
            "test_mode": True,
        }
        data = {"type": "subscription-invoices", "id": str(next(self.numbers)), "attributes": attributes}
        self.courier.take(f"subscription_payment_{outcome}", data, None)


_CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "cancel": ("cancelled", {"status": "cancelled", "cancelled": True}),
    "resume": ("resumed", {"status": "active", "cancelled": False, "ends_at": None}),
    "pause": ("paused", {"status": "paused", "pause": {"mode": "void", "resumes_at": None}}),
    "unpause": ("unpaused", {"status": "active", "pause": None}),
    "expire": ("expired", {"status": "expired"}),
}


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _order(number: int, checkout: Checkout, item: Item, now: datetime) -> dict[str, Any]:
    stamp = _stamp(now)
    attributes = {
        "store_id": 1,
        "customer_id": 1,
        "order_number": number,
        "user_email": checkout.email,
        "currency": "USD",
        "total": item.price,
        "status": "paid",
        "refunded": False,
        "refunded_amount": 0,
        "refunded_at": None,
        "first_order_item": {
            "order_id": number,
            "variant_id": int(checkout.variant_id),
            "variant_name": item.name,
            "price": item.price,
            "quantity": 1,
        },
        "created_at": stamp,
        "updated_at": stamp,
        "test_mode": True,
    }
    return {"type": "orders", "id": str(number), "attributes": attributes}


def _subscription(number: int, order: int, checkout: Checkout, item: Item, now: datetime) -> dict[str, Any]:
    renews_at = months.add(now, 12 if item.interval == "year" else 1)
    attributes = {
        "store_id": 1,
        "customer_id": 1,
        "order_id": order,
        "variant_id": int(checkout.variant_id),
        "variant_name": item.name,
        "user_email": checkout.email,
        "status": "active",
        "cancelled": False,
        "pause": None,
        "trial_ends_at": None,
        "billing_anchor": now.day,
        "renews_at": _stamp(renews_at),
        "ends_at": None,
        "created_at": _stamp(now),
        "updated_at": _stamp(now),
        "test_mode": True,
    }
    return {"type": "subscriptions", "id": str(number), "attributes": attributes}
