"""Customers who want their pictures: each order is sent, under one Idempotency-Key, until it is answered."""

import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from pingvas import db
from pingvas.accounts import tokens
from pingvas.accounts.register import register
from tests.chaos.plan import Order

_AT_ONCE: Final = 24
_PATIENCE_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 0.2
_MONEY: Final = 402


@dataclass
class Answers:
    """What the API has said. `accepted` holds job ids and `told` quotes by order."""

    accepted: dict[int, str] = field(default_factory=dict)
    told: dict[int, int] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.accepted) + len(self.refused)


class Customers:
    """Sends orders from threads of its own."""

    def __init__(self, url: str, orders: tuple[Order, ...]) -> None:
        # A connection for each request: nothing is left half open by a killed API.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=url, timeout=15, limits=limits)
        self._tokens = {who: _account(*who) for who in sorted({(order.tier, order.user) for order in orders})}
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._sent: list[Future[None]] = []
        self._heard = threading.Condition()
        self._in_flight = 0
        self.answers = Answers()

    def send(self, orders: tuple[Order, ...]) -> None:
        """Send orders; returns at once."""
        self._sent += [self._pool.submit(self._place, order) for order in orders]

    def wait_answered(self, count: int, seconds: float) -> None:
        """Wait until so many orders are answered, or the time is up."""
        with self._heard:
            self._heard.wait_for(lambda: self.answers.count >= count, seconds)

    def wait_in_flight(self, seconds: float) -> bool:
        """Wait until a request is under way; False when none is in that time."""
        with self._heard:
            return self._heard.wait_for(lambda: self._in_flight > 0, seconds)

    def finish(self) -> Answers:
        """Return the answers once every order has one."""
        for sent in self._sent:
            sent.result()
        self._pool.shutdown()
        self._http.close()
        return self.answers

    def _place(self, order: Order) -> None:
        answer = self._until_answered(order, "/api/v1/generate", order.body)
        with self._heard:
            if answer.status_code == _MONEY:
                self.answers.refused.add(order.number)
            else:
                self.answers.accepted[order.number] = answer.json()["job_id"]
                self.answers.told[order.number] = answer.json()["estimated_credits"]
            self._heard.notify_all()
        if answer.status_code == _MONEY:
            return
        job_id = answer.json()["job_id"]
        if order.repeated:
            again = self._until_answered(order, "/api/v1/generate", order.body)
            if again.json().get("job_id") != job_id:
                self.answers.wrong.append(f"order {order.number} came again: {again.text}, not job {job_id}")
        if order.cancelled:
            self._until_answered(order, f"/api/v1/jobs/{job_id}/cancel", None)

    def _until_answered(self, order: Order, path: str, body: dict[str, Any] | None) -> httpx.Response:
        """Ask until the answer is final: done, no money, or too late to cancel."""
        final = {200, 202, _MONEY} if body else {200, 202, 409}
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            answer = self._ask(order, path, body)
            if answer is not None and answer.status_code in final:
                return answer
            time.sleep(_PAUSE_SECONDS)
        raise TimeoutError(f"order {order.number} got no answer to {path}: {self.answers.statuses}")

    def _ask(self, order: Order, path: str, body: dict[str, Any] | None) -> httpx.Response | None:
        headers = {"Authorization": f"Bearer {self._tokens[order.tier, order.user]}"}
        if body:
            headers["Idempotency-Key"] = f"order-{order.number}"
        self._flying(1)
        try:
            answer = self._http.post(path, json=body, headers=headers)
        except httpx.TransportError as error:
            self.answers.statuses[type(error).__name__] += 1
            return None
        finally:
            self._flying(-1)
        self.answers.statuses[str(answer.status_code)] += 1
        if answer.status_code == 500:
            self.answers.wrong.append(f"order {order.number}: {path} answered 500: {answer.text}")
        return answer

    def _flying(self, more: int) -> None:
        with self._heard:
            self._in_flight += more
            self._heard.notify_all()


def _account(tier: str, number: int) -> str:
    user = register(f"{tier}-{number}@example.com", "correct horse battery", tier=tier)
    with db.transaction() as session:
        return tokens.sign_in(session, user).access_token
