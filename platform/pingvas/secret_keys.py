"""The secret key and the one before it: what is signed or sealed with the old one is still good.

To change the key: the present `PINGVAS_SECRET_KEY` becomes `PINGVAS_SECRET_KEY_PREVIOUS`, a new one takes its
place, and all processes start anew. When the longest-lived token has expired, the old key goes. Second
factors are sealed anew as they are used; see docs/accounts.md.
"""

import base64
import hashlib
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from pingvas import settings


def current() -> str:
    """Return the key that signs."""
    return settings.get().secret_key.get_secret_value()


def accepted() -> tuple[str, ...]:
    """Return the keys that verify, the one that signs first."""
    previous = settings.get().secret_key_previous.get_secret_value()
    return (current(), previous) if previous else (current(),)


def seal(secret: bytes) -> bytes:
    """Return `secret` as it may lie in the database (Fernet: AES-128-CBC with HMAC-SHA256)."""
    return _fernet(accepted()).encrypt(secret)


def unseal(sealed: bytes) -> bytes:
    """Return what was sealed.

    Raises:
        ValueError: it was sealed with a key that is no longer accepted, or was tampered with.
    """
    try:
        return _fernet(accepted()).decrypt(sealed)
    except InvalidToken:
        raise ValueError("sealed with another secret key") from None


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    # A key of its own, so that nothing which is signed elsewhere can be taken for something sealed.
    digests = (hashlib.sha256(f"seal {key}".encode()).digest() for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
