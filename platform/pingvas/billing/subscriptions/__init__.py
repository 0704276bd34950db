"""Subscriptions and one-time purchases: what was paid for, and which plan that is."""
