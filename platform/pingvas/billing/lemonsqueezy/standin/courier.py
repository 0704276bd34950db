"""Sends the stand-in's webhooks: at once, or later in another order; again, or with a forged signature."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from pingvas.billing.lemonsqueezy.inbox import signature

Post = Callable[[bytes, dict[str, str]], int]
"""Sends a body with headers; returns the status of the answer, 0: there was none."""


@dataclass
class Parcel:
    """A webhook; `status` is the last answer to it, None: not sent yet."""

    name: str
    body: bytes
    status: int | None = None
    sent: int = 0


def to_url(url: str) -> Post:
    """Return what sends to an address."""

    def post(body: bytes, headers: dict[str, str]) -> int:
        try:
            return httpx.post(url, content=body, headers=headers, timeout=10).status_code
        except httpx.HTTPError:
            return 0

    return post


class Courier:
    """Remembers everything that it was given; while it is `holding`, it keeps what is new."""

    def __init__(self, post: Post, secret: str) -> None:
        self._post = post
        self._secret = secret
        self.parcels: list[Parcel] = []
        self.holding = False

    def take(self, name: str, data: dict[str, Any], custom: dict[str, Any] | None) -> None:
        """Send an event, or keep it for `release`."""
        meta: dict[str, Any] = {"test_mode": True, "event_name": name}
        if custom:
            meta["custom_data"] = custom
        self.parcels.append(Parcel(name, json.dumps({"meta": meta, "data": data}).encode()))
        if not self.holding:
            self.send(len(self.parcels) - 1)

    def send(self, number: int, *, forged: bool = False) -> int:
        """Send a parcel, also once more; return the status of the answer."""
        parcel = self.parcels[number]
        signed = signature(parcel.body, "nobody's secret" if forged else self._secret)
        headers = {"X-Signature": signed, "X-Event-Name": parcel.name, "Content-Type": "application/json"}
        parcel.status = self._post(parcel.body, headers)
        parcel.sent += not forged
        return parcel.status

    def release(self, order: str) -> None:
        """Send what is kept, in order (`kept`), `reversed` or `shuffled`, and hold nothing from now on."""
        waiting = [number for number, parcel in enumerate(self.parcels) if parcel.status is None]
        if order == "reversed":
            waiting.reverse()
        elif order == "shuffled":
            random.shuffle(waiting)
        self.holding = False
        for number in waiting:
            self.send(number)
