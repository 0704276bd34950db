"""Identifiers: UUIDv7, so that ids sort by creation time and indexes stay compact."""

import secrets
import time
from uuid import UUID

from pingvas.errors import NotFound


def new() -> UUID:
    """Return a UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76  # version 7
    value = value & ~(0x3 << 62) | 0x2 << 62  # RFC 9562 variant
    return UUID(int=value)


def parse(text: str) -> UUID:
    """Read an id that a client sent.

    Raises:
        NotFound: the text is no UUID; nothing can have such an id.
    """
    try:
        return UUID(text)
    except ValueError:
        raise NotFound from None
