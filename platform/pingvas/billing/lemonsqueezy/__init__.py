"""Lemon Squeezy, the shop: checkouts, the customer portal, webhooks that are stored before they are read."""
