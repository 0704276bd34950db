"""Pingvas: domain logic and the thin REST API. Never imports torch or diffusers."""

__version__ = "0.1.0"
