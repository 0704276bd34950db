"""Any sequence of what can happen to a customer's money leaves books that a reconcile proves right."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text

from pingvas import clock, db
from pingvas.accounts.register import register
from pingvas.billing import plans, resets
from pingvas.billing.models import Hold
from pingvas.errors import InsufficientCredits
from tests.billing import holds
from tests.billing.conftest import START, Books, deliver
from tests.billing.lemonsqueezy.shapes import order, payment, subscription

PLANS = st.sampled_from(["starter", "pro", "studio"])
STATUSES = st.sampled_from(["active", "past_due", "unpaid", "paused", "cancelled", "expired"])


class Money(RuleBasedStateMachine):
    """One customer; webhooks are kept back and delivered later, in any order, and again."""

    def __init__(self) -> None:
        super().__init__()
        with db.transaction() as session:
            tables = [name for name in db.Base.metadata.tables if name != "catalog_entries"]
            session.execute(text(f"TRUNCATE {', '.join(tables)}"))
        self.now = START
        clock.now = lambda: self.now  # undone by the test
        self.user_id = register("payer@example.com", "correct horse battery").id
        self.books = Books(self.user_id)
        self.jobs: list[UUID] = []
        self.kept: list[bytes] = []
        self.orders: dict[int, int] = {}
        self.spent = 0

    @rule(amount=st.integers(1, 3_000))
    def hold(self, amount: int) -> None:
        wallet = self.books.wallet
        try:
            job = holds.hold(self.user_id, amount)
        except InsufficientCredits:
            assert amount > wallet.monthly + wallet.purchased
        else:
            assert amount <= wallet.monthly + wallet.purchased
            self.jobs.append(job)

    @precondition(lambda self: self.jobs)
    @rule(cost=st.integers(0, 4_000), data=st.data())
    def settle(self, cost: int, data: Any) -> None:
        job = self.jobs.pop(data.draw(st.integers(0, len(self.jobs) - 1)))
        with db.transaction() as session:
            quote = session.get_one(Hold, job).quote
        charged = holds.settle(job, cost)
        assert charged == min(cost, quote) == holds.settle(job, 1)
        self.spent += charged

    @rule(days=st.integers(1, 40))
    def wait_and_reset(self, days: int) -> None:
        self.now += timedelta(days=days)
        resets.run()
        wallet = self.books.wallet
        assert self.now < wallet.resets_at
        assert wallet.monthly <= max(plan.monthly_credits for plan in plans.table().values())

    @rule(plan=PLANS, status=STATUSES, ends=st.integers(0, 30))
    def subscription_changes(self, plan: str, status: str, ends: int) -> None:
        self.now += timedelta(seconds=1)
        end = self.now + timedelta(days=ends)
        minutes = (self.now - START).total_seconds() / 60
        self.kept.append(
            subscription("updated", self.user_id, plan=plan, status=status, ends_at=end, minutes=minutes)
        )

    @rule(name=st.sampled_from(["failed", "success", "recovered"]))
    def is_billed(self, name: str) -> None:
        self.now += timedelta(seconds=1)
        self.kept.append(payment(name, minutes=(self.now - START).total_seconds() / 60))

    @rule(number=st.integers(1, 4), refunded=st.integers(0, 1_000))
    def buys_or_is_refunded(self, number: int, refunded: int) -> None:
        status = "refunded" if refunded == 1_000 else "partial_refund" if refunded else "paid"
        name = "refunded" if refunded else "created"
        self.kept.append(order(name, self.user_id, id_=number, status=status, refunded=refunded))
        self.orders[number] = max(refunded, self.orders.get(number, 0))

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), again=st.booleans())
    def webhooks_arrive(self, data: Any, again: bool) -> None:
        burst = data.draw(st.permutations(self.kept))
        deliver(*burst, *(burst if again else ()))
        self.kept = []
        bought = sum(1_000 - refunded for refunded in self.orders.values())
        with db.transaction() as session:
            given = session.scalar(
                text("SELECT coalesce(sum(credits - taken - shortfall), 0) FROM purchases")
            )
        assert given == bought

    @invariant()
    def the_books_are_right(self) -> None:
        found = self.books.problems()
        # A payment may wait for its subscription for ever here.
        assert not [name for name in found if "webhooks" not in name], found
        wallet = self.books.wallet
        with db.transaction() as session:
            revenue = session.scalar(
                text("SELECT coalesce(sum(amount), 0) FROM ledger_entries WHERE account = 'revenue'")
            )
            unsettled = session.scalars(select(Hold.quote).where(Hold.settled_at.is_(None))).all()
        assert revenue == self.spent
        assert wallet.held == sum(unsettled)
        assert min(wallet.monthly, wallet.purchased) >= 0


@pytest.mark.usefixtures("shop")
@pytest.mark.timeout(170)
def test_no_sequence_of_events_breaks_the_books(monkeypatch: pytest.MonkeyPatch) -> None:
    moment: datetime = clock.now()
    monkeypatch.setattr(clock, "now", lambda: moment)  # so that it is put back
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
