"""Lemon Squeezy's API (docs.lemonsqueezy.com/api): JSON:API both ways, the few calls that are needed."""

import logging
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from pingvas import settings
from pingvas.errors import PingvasError, Unavailable

log = logging.getLogger(__name__)

_MEDIA_TYPE: Final = "application/vnd.api+json"
_TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)


class Refused(Unavailable):
    """The shop answers, and does not do what it is asked."""


class NotConfigured(PingvasError):
    """The operator sells nothing yet."""

    code, status, title = "PAYMENTS_NOT_CONFIGURED", 503, "Payments are not set up on this server"


def create_checkout(variant_id: str, *, email: str, user_id: str, redirect_url: str | None) -> str:
    """Return the address of a page where a customer pays for a variant.

    What is paid there comes back as webhooks whose custom data names the user.

    Raises:
        NotConfigured: the settings name no key or store.
        Unavailable: the shop does not answer, or refuses.
    """
    store_id = settings.get().lemonsqueezy_store_id
    attributes: dict[str, Any] = {"checkout_data": {"email": email, "custom": {"user_id": user_id}}}
    if redirect_url:
        attributes["product_options"] = {"redirect_url": redirect_url}
    relationships = {
        "store": {"data": {"type": "stores", "id": store_id}},
        "variant": {"data": {"type": "variants", "id": variant_id}},
    }
    body = {"data": {"type": "checkouts", "attributes": attributes, "relationships": relationships}}
    return _url(_ask("POST", "/v1/checkouts", body), "url")


def portal_url(subscription_id: str) -> str:
    """Return the address where a customer changes a subscription; it is good for 24 hours.

    Raises:
        NotConfigured: the settings name no key or store.
        Unavailable: the shop does not answer, or refuses.
    """
    return _url(_ask("GET", f"/v1/subscriptions/{subscription_id}"), "urls", "customer_portal")


def subscription(subscription_id: str) -> dict[str, Any]:
    """Return a subscription as its webhooks have it at `data`.

    Raises:
        NotConfigured: the settings name no key or store.
        Refused: there is none of that id.
        Unavailable: the shop does not answer.
    """
    document = _ask("GET", f"/v1/subscriptions/{subscription_id}")
    found = document.get("data") if isinstance(document, dict) else None
    if not isinstance(found, dict) or str(found.get("id")) != subscription_id:
        log.error("the shop answers without subscription %s", subscription_id)
        raise Refused("The shop does not answer as it should; please try again later.", retry_after=60)
    return found


def is_configured() -> bool:
    """Whether the settings name a key and a store."""
    config = settings.get()
    return bool(config.lemonsqueezy_api_key.get_secret_value() and config.lemonsqueezy_store_id)


def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    config = settings.get()
    if not is_configured():
        raise NotConfigured("The operator of this server has not set up payments.")
    key = config.lemonsqueezy_api_key.get_secret_value()
    headers = {"Authorization": f"Bearer {key}", "Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE}
    try:
        answer = _client().request(method, f"{config.lemonsqueezy_url}{path}", json=body, headers=headers)
        answer.raise_for_status()
        return answer.json()
    except httpx.HTTPStatusError as error:
        log.error("the shop refuses %s %s: %s", method, path, error.response.text[:500])
        raise Refused("The shop refuses; please try again later.", retry_after=60) from None
    except (httpx.HTTPError, ValueError) as error:
        log.error("the shop cannot be reached: %s %s: %r", method, path, error)
        raise Unavailable("The shop cannot be reached; please try again.", retry_after=5) from None


@lru_cache(maxsize=1)
def _client() -> httpx.Client:
    return httpx.Client(timeout=_TIMEOUT)


def _url(document: Any, *path: str) -> str:
    found: Any = document
    for name in ("data", "attributes", *path):
        found = found.get(name) if isinstance(found, dict) else None
    # A browser is sent there.
    if not isinstance(found, str) or urlsplit(found).scheme not in ("https", "http"):
        log.error("the shop answers without %s", ".".join(path))
        raise Unavailable("The shop does not answer as it should; please try again later.", retry_after=60)
    return found
