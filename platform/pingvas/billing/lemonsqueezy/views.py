"""Routes of payments: checkouts, the customer portal, one's subscription, the shop's webhooks."""

from datetime import datetime
from typing import Literal

from flask import Response, request
from pydantic import ConfigDict, Field

from pingvas import db, settings
from pingvas.billing import plans
from pingvas.billing.lemonsqueezy import client, inbox, variants
from pingvas.billing.lemonsqueezy.client import NotConfigured
from pingvas.billing.lemonsqueezy.variants import SOLD, PackageVariant, PlanVariant, Variant
from pingvas.billing.subscriptions import finding
from pingvas.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, Unavailable
from pingvas.web import auth, parsing
from pingvas.web.api import Blueprint, Body, Reply, endpoint

bp = Blueprint("payments", tag="Payments")

MAX_WEBHOOK_BYTES = 1_048_576


class Subscribed(Conflict):
    """A second subscription would be paid for twice."""

    code, title = "SUBSCRIBED", "You have a subscription"


class CheckoutBody(Body):
    """The plan to subscribe to."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tier": "pro", "interval": "month"}]})

    tier: str = Field(max_length=32, description="starter, pro or studio.")
    interval: Literal["month", "year", "monthly", "yearly"] = "month"


class CreditCheckoutBody(Body):
    """The package of credits to buy."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"package": "1000"}]})

    package: str = Field(max_length=64, description="One of those that `GET /plans` lists.")


class CheckoutReply(Reply):
    """Where to pay."""

    checkout_url: str


class PortalReply(Reply):
    """Where to change or cancel a subscription, its card and address; good for 24 hours."""

    portal_url: str


class SubscriptionReply(Reply):
    """What is paid for. `tier` is the plan in force, `next_tier` what it becomes at `changes_at`.

    Without a subscription `status` is `none`.
    """

    tier: str
    status: str
    interval: str | None
    renews_at: datetime | None
    ends_at: datetime | None
    next_tier: str | None
    changes_at: datetime | None


@bp.post("/payments/create-checkout")
@endpoint(
    body=CheckoutBody,
    reply=CheckoutReply,
    scope="write",
    errors=(Forbidden, Subscribed, Unavailable, NotConfigured),
)
def create_checkout(body: CheckoutBody) -> CheckoutReply:
    """Subscribe to a plan: get the page to pay on"""
    user = auth.current()
    if body.tier not in SOLD:
        sold = ", ".join(SOLD)
        raise _invalid("tier", f"{sold} can be subscribed to; enterprise is by contract. Not {body.tier!r}.")
    with db.transaction() as session:
        if finding.current(session, user.id) is not None:
            raise Subscribed("Change or resume it in the customer portal: GET /api/v1/payments/portal.")
    interval: variants.Interval = "year" if body.interval.startswith("year") else "month"
    return _checkout(user, PlanVariant(plans.Tier(body.tier), interval))


@bp.post("/payments/create-credit-checkout")
@endpoint(
    body=CreditCheckoutBody,
    reply=CheckoutReply,
    scope="write",
    errors=(Forbidden, Unavailable, NotConfigured),
)
def create_credit_checkout(body: CreditCheckoutBody) -> CheckoutReply:
    """Buy credits: get the page to pay on"""
    packages = plans.prices().packages
    if body.package not in packages:
        raise _invalid("package", f"There are {', '.join(packages)}; not {body.package!r}.")
    return _checkout(auth.current(), PackageVariant(body.package))


def _checkout(user: auth.Principal, variant: Variant) -> CheckoutReply:
    variant_id = variants.id_of(variant)
    if variant_id is None:
        raise NotConfigured("This is not for sale on this server yet.")
    back = settings.get().web_url or None  # the API has no page to come back to: the shop's receipt stays
    url = client.create_checkout(variant_id, email=user.email, user_id=str(user.id), redirect_url=back)
    return CheckoutReply(checkout_url=url)


@bp.get("/payments/portal")
@endpoint(reply=PortalReply, scope="account", errors=(Forbidden, NotFound, Unavailable, NotConfigured))
def portal() -> PortalReply:
    """Get the page to change or cancel your subscription on"""
    with db.transaction() as session:
        row = finding.latest(session, auth.current().id)
    if row is None:
        raise NotFound("You have no subscription.")
    return PortalReply(portal_url=client.portal_url(row.provider_id))


@bp.get("/subscription")
@endpoint(reply=SubscriptionReply)
def own_subscription() -> SubscriptionReply:
    """Show your subscription"""
    user = auth.current()
    with db.transaction() as session:
        row = finding.latest(session, user.id)
        following = finding.following(row) if row else None
    return SubscriptionReply(
        tier=user.tier,
        status=row.status if row else "none",
        interval=row.interval if row else None,
        renews_at=row.renews_at if row and row.renews else None,
        ends_at=row.ends_at if row else None,
        next_tier=following[0] if following else None,
        changes_at=following[1] if following else None,
    )


@bp.post("/webhooks/lemon-squeezy")
@endpoint(
    public=True,
    limit="none",
    media_type="text/plain",
    max_bytes=MAX_WEBHOOK_BYTES,
    errors=(Unauthorized, NotConfigured),
    headers={"X-Signature": "HMAC-SHA256 of the body in hexadecimal, under the store's webhook secret."},
)
def webhook() -> Response:
    """Tell of a payment (Lemon Squeezy only)"""
    if not settings.get().lemonsqueezy_webhook_secret.get_secret_value():
        raise NotConfigured("No webhook secret is set.")  # not 4xx: the shop tries again
    body = parsing.raw(request)
    if not inbox.is_signed(body, request.headers.get("X-Signature", "")):
        raise Unauthorized("X-Signature does not fit the body.")
    inbox.store(body)
    return Response("stored", content_type="text/plain; charset=utf-8")


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(message, errors=[parsing.problem((field,), message, "value_error")])
