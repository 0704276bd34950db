"""The address that clients reach us by."""

from flask import request

from pingvas import settings


def base_url() -> str:
    """Return the public address without a trailing slash: as set, else as this request came in."""
    return (settings.get().public_url or request.host_url).rstrip("/")
