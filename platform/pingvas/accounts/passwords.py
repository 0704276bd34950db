"""Passwords: argon2id with the library's defaults (RFC 9106, low-memory profile)."""

import os
import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher()
# Each takes 64 MiB while it works, and more of them than processors are not sooner done.
_turn = threading.BoundedSemaphore(min(os.cpu_count() or 1, 4))


def hash_of(password: str) -> str:
    """Return what is stored of a password."""
    with _turn:
        return _hasher.hash(password)


def matches(stored: str | None, password: str) -> bool:
    """Say whether `password` made `stored`. For None (no such account) the same work ends in no."""
    known = stored or _nobodys()
    try:
        with _turn:
            _hasher.verify(known, password)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Say whether a password is stored with other parameters than today's."""
    return _hasher.check_needs_rehash(stored)


@cache
def _nobodys() -> str:
    return hash_of("the password of nobody")
