"""A shop for development and tests that speaks Lemon Squeezy's API and sends its webhooks; no money moves.

Never part of a server: `pingvas dev lemonsqueezy` starts it.
"""

from pingvas.billing.lemonsqueezy.standin.app import create_app
from pingvas.billing.lemonsqueezy.standin.courier import Courier
from pingvas.billing.lemonsqueezy.standin.shop import Shop

__all__ = ["Courier", "Shop", "create_app"]
