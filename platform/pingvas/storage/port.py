"""The port every object store implements, and the grammar of keys they share."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pingvas.errors import NotFound

MAX_KEY = 512
MAX_KEYS = 1_000  # that S3 tells at once
MAX_URL_SECONDS = 604_800  # the longest life that an S3 signature (v4) may have

# A segment never starts with a dot: that rules out `.` and `..`, and keeps temporary files out of reach.
_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")


class Missing(NotFound):
    """No object has this key."""

    title = "There is no such object"


class ObjectKeyError(ValueError):
    """The key is not one that every store can hold; a mistake of the caller, never of a client."""


@dataclass(frozen=True)
class Listed:
    """An object's key, and when it was put last (UTC)."""

    key: str
    modified: datetime


class ObjectStore(Protocol):
    """Bytes under keys such as `pictures/<id>.png`: at most 512 characters of `A-Z a-z 0-9 . _ - /`.

    Every method raises `ObjectKeyError` for another key and `pingvas.errors.Unavailable` when the store
    cannot be reached or is full. An object is seen whole or not at all.
    """

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store `data`, replacing what the key held; it is durable when this returns."""

    def get(self, key: str) -> bytes:
        """Return the bytes stored last.

        Raises:
            Missing: nothing is stored under the key.
        """

    def delete(self, key: str) -> None:
        """Remove the object; deleting what is not there is no error."""

    def exists(self, key: str) -> bool:
        """Tell whether the key holds an object."""

    def url(self, key: str, seconds: int, filename: str | None = None) -> str | None:
        """Return an address that anyone may GET for `seconds` (1 to 604,800), or None.

        None means that the API has to serve the bytes itself. With `filename` a browser saves the
        object under that name. Whether the object exists is not looked up.
        """

    def keys(self, prefix: str, after: str = "", limit: int = MAX_KEYS) -> Sequence[Listed]:
        """Return the next objects whose keys begin with `prefix` and come behind `after`, in the keys' order.

        `prefix` is a key and a slash (`images/`); `limit` is 1 to 1,000. Fewer than that are the last ones.
        """

    def tidy(self, before: datetime) -> int:
        """Remove what writers that died before that moment have left half written; return how much."""

    def check(self) -> None:
        """Return when the store can be used.

        Raises:
            Unavailable: it cannot; the detail says why.
        """


def checked_prefix(prefix: str) -> str:
    """Return `prefix`.

    Raises:
        ObjectKeyError: it is not a key and a slash.
    """
    if not prefix.endswith("/"):
        raise ObjectKeyError(f"not a prefix of keys: {prefix[:80]!r}")
    checked(prefix[:-1])
    return prefix


def checked(key: str) -> str:
    """Return `key`.

    Raises:
        ObjectKeyError: it is absolute, climbs, is too long or has a character outside the grammar.
    """
    if len(key) > MAX_KEY or not _KEY.fullmatch(key):
        raise ObjectKeyError(f"not an object key: {key[:80]!r}")
    return key
