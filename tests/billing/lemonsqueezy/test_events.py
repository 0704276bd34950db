"""Every event of the shop: what it comes to, in any order and any number of times."""

import random
from datetime import timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from pingvas import db
from pingvas.accounts.models import User
from pingvas.billing import ledger, resets, statements
from pingvas.billing.lemonsqueezy import inbox
from pingvas.billing.lemonsqueezy.models import WebhookEvent
from pingvas.billing.lemonsqueezy.payloads import Envelope
from pingvas.billing.subscriptions.models import Purchase
from tests.billing.conftest import START, Books, Clock, deliver, event
from tests.billing.holds import hold, settle
from tests.billing.lemonsqueezy.shapes import at, order, payment, subscription

pytestmark = pytest.mark.usefixtures("shop", "time")


def outcomes() -> list[str | None]:
    with db.transaction() as session:
        return list(session.scalars(select(WebhookEvent.outcome).order_by(WebhookEvent.id)))


def purchase() -> tuple[int, int]:
    with db.transaction() as session:
        row = session.scalars(select(Purchase)).one()
        return row.taken, row.shortfall


def test_a_new_subscription_begins_a_month_of_its_plan(books: Books) -> None:
    deliver(subscription("created", books.user_id), order("created", books.user_id, package="starter"))
    assert books.tier == "starter"
    assert books.balances == (2_500, 0, 0)
    assert books.lines[1:] == [("expiry", -100), ("monthly_allocation", 2_500)]
    assert outcomes() == ["done", "an order of a subscription, which has events of its own"]
    assert books.wallet.resets_at == START.replace(month=2, day=28)
    assert books.problems() == {}


def test_an_upgrade_gives_the_difference_at_once(books: Books, time: Clock) -> None:
    deliver(subscription("created", books.user_id))
    time.forward(days=10)
    deliver(subscription("plan_changed", None, plan="pro", minutes=14_400))
    deliver(subscription("updated", None, plan="pro", minutes=14_400))
    assert books.tier == "pro"
    assert books.balances == (7_500, 0, 0)
    time.forward(days=18)
    resets.run()
    assert books.balances == (7_500, 0, 0)
    assert books.lines[-2:] == [("expiry", -7_500), ("monthly_allocation", 7_500)]


def test_a_downgrade_waits_for_the_end_of_the_month(books: Books, time: Clock) -> None:
    deliver(subscription("created", books.user_id, plan="pro"))
    time.forward(days=10)
    deliver(subscription("plan_changed", None, plan="starter", minutes=14_400))
    assert (books.tier, books.balances) == ("pro", (7_500, 0, 0))
    time.forward(days=18)
    resets.run()
    assert (books.tier, books.balances) == ("starter", (2_500, 0, 0))


def test_a_yearly_plan_gets_its_credits_each_month_and_is_kept_for_the_year(
    books: Books, time: Clock
) -> None:
    year = START.replace(year=2027)
    deliver(subscription("created", books.user_id, plan="studio", yearly=True, renews_at=year))
    time.forward(days=60)
    deliver(subscription("updated", None, plan="pro", yearly=True, renews_at=year, minutes=86_400))
    resets.run()
    assert (books.tier, books.balances) == ("studio", (15_000, 0, 0))
    time.to(year)
    resets.run()
    assert (books.tier, books.balances) == ("pro", (7_500, 0, 0))


def test_a_cancelled_plan_runs_until_it_ends_though_nobody_says_so_then(books: Books, time: Clock) -> None:
    end = START.replace(month=2, day=28)
    deliver(subscription("created", books.user_id))
    ledger.grant(books.user_id, 40, business_key="gift:1")
    deliver(subscription("cancelled", None, status="cancelled", ends_at=end, minutes=5))
    assert (books.tier, books.balances) == ("starter", (2_500, 40, 0))
    time.to(end)
    resets.run()
    assert (books.tier, books.balances) == ("free", (100, 40, 0))
    deliver(subscription("expired", None, status="expired", ends_at=end, minutes=40_320))
    assert (books.tier, books.balances) == ("free", (100, 40, 0))


def test_a_cancelled_plan_that_is_resumed_goes_on(books: Books, time: Clock) -> None:
    end = START.replace(month=2, day=28)
    deliver(subscription("created", books.user_id))
    deliver(subscription("cancelled", None, status="cancelled", ends_at=end, minutes=5))
    deliver(subscription("resumed", None, minutes=6))
    time.to(end)
    resets.run()
    assert (books.tier, books.balances) == ("starter", (2_500, 0, 0))


def test_a_paused_plan_rests_and_gives_nothing_twice(books: Books) -> None:
    deliver(subscription("created", books.user_id))
    deliver(subscription("paused", None, status="paused", minutes=5))
    assert (books.tier, books.balances) == ("free", (2_500, 0, 0))
    deliver(subscription("unpaused", None, minutes=6))
    assert (books.tier, books.balances) == ("starter", (2_500, 0, 0))


def test_the_third_failed_payment_in_a_row_ends_the_plan_and_one_that_succeeds_brings_it_back(
    books: Books, time: Clock
) -> None:
    deliver(subscription("created", books.user_id), order("created", books.user_id))
    deliver(payment("failed", minutes=10), payment("failed", minutes=20))
    deliver(payment("success", minutes=30))
    deliver(*(payment("failed", minutes=m, invoice=6) for m in (40, 50)))
    assert (books.tier, books.balances) == ("starter", (2_500, 1_000, 0))
    deliver(payment("failed", minutes=60, invoice=6))
    assert (books.tier, books.balances) == ("free", (0, 1_000, 0))
    deliver(payment("recovered", minutes=70, invoice=6))
    assert (books.tier, books.balances) == ("starter", (2_500, 1_000, 0))
    assert books.problems() == {}


def test_a_purchase_is_kept_for_ever_and_a_refund_takes_back_what_is_left(books: Books) -> None:
    deliver(order("created", books.user_id))
    assert books.balances == (100, 1_000, 0)
    settle(hold(books.user_id, 900), 900)
    deliver(order("refunded", books.user_id, status="refunded", refunded=1_000))
    assert books.balances == (0, 0, 0)
    assert purchase() == (200, 800)
    assert books.problems() == {}


def test_what_is_held_counts_as_spent_and_comes_back_for_an_operator_to_take(books: Books) -> None:
    deliver(order("created", books.user_id))
    job = hold(books.user_id, 600)
    deliver(order("refunded", books.user_id, status="refunded", refunded=1_000))
    assert (books.balances, purchase()) == ((0, 0, 600), (500, 500))
    settle(job, 150)
    assert books.balances == (0, 450, 0)
    with db.transaction() as session:
        told = statements.shortfalls(session)
    assert told == [("9", str(books.user_id), "payer@example.com", 1_000, 500, 500, 0)]
    ledger.grant(books.user_id, -450, business_key="taken:1", description="of order 9")
    assert (books.balances, books.problems()) == ((0, 0, 0), {})


def test_refunds_in_parts_come_to_their_sum(books: Books) -> None:
    deliver(order("created", books.user_id, package="5000", total=4_000))
    deliver(order("refunded", None, package="5000", total=4_000, refunded=1_000, status="partial_refund"))
    assert books.balances == (100, 5_000, 0)  # whose it is, is not said: it waits
    for refunded in (3_000, 1_000):
        body = order(
            "refunded", books.user_id, package="5000", total=4_000, refunded=refunded, status="partial_refund"
        )
        deliver(body)
    assert books.balances == (100, 1_250, 0)
    assert purchase() == (3_750, 0)


LIFE: list[tuple[str, dict[str, Any]]] = [
    ("subscription_created", {"plan": "starter", "minutes": 0}),
    ("subscription_updated", {"plan": "starter", "minutes": 1}),
    ("subscription_plan_changed", {"plan": "studio", "minutes": 10}),
    (
        "subscription_cancelled",
        {"plan": "studio", "minutes": 20, "status": "cancelled", "ends_at": at(40_000)},
    ),
    ("subscription_resumed", {"plan": "studio", "minutes": 30}),
    ("subscription_paused", {"plan": "studio", "minutes": 40, "status": "paused"}),
    ("subscription_unpaused", {"plan": "studio", "minutes": 50}),
    ("subscription_plan_changed", {"plan": "pro", "minutes": 60}),
]


def life(user_id: UUID) -> list[bytes]:
    """All events of one customer, as they happened."""
    told = [subscription(name.removeprefix("subscription_"), user_id, **more) for name, more in LIFE]
    told += [payment("failed", minutes=15), payment("recovered", minutes=16), payment("success", minutes=0.5)]
    told.append(order("created", user_id))
    told.append(order("refunded", user_id, status="refunded", refunded=1_000))
    told.append(order("created", user_id, package="studio", id_=10))
    # A plan of before, which is over.
    told.append(subscription("created", user_id, id_=70, minutes=-90))
    told.append(subscription("expired", None, id_=70, minutes=-60, status="expired", ends_at=at(-60)))
    return told


def test_a_life_has_all_events(books: Books) -> None:
    assert {Envelope.model_validate_json(body).meta.event_name for body in life(books.user_id)} == {
        *(f"order_{name}" for name in ("created", "refunded")),
        *(f"subscription_payment_{name}" for name in ("success", "failed", "recovered")),
        *(f"subscription_{name}" for name in ("created", "updated", "plan_changed", "cancelled", "resumed")),
        *(f"subscription_{name}" for name in ("expired", "paused", "unpaused")),
    }


@pytest.mark.parametrize("seed", range(25))
def test_any_order_and_duplicates_come_to_the_same(books: Books, seed: int) -> None:
    dice = random.Random(seed)
    told = life(books.user_id) * 2
    dice.shuffle(told)
    while told:
        burst = [told.pop() for _ in range(min(len(told), dice.randint(1, 4)))]
        deliver(*burst)
    assert deliver() == {"handled": 0, "waiting": 0}
    with db.transaction() as session:
        phases = session.execute(text("SELECT provider_id, phase FROM subscriptions")).all()
    assert sorted(phases) == [("70", "ended"), ("77", "running")]
    assert books.tier == "studio"  # paid for until the end of the month
    assert books.balances == (15_000, 0, 0)
    assert books.problems() == {}


@pytest.mark.parametrize("end", ["expired", "unpaid"])
def test_an_end_is_an_end_in_any_order(books: Books, end: str) -> None:
    told = [
        subscription("created", books.user_id),
        subscription("plan_changed", books.user_id, plan="pro", minutes=5),
        subscription(
            "expired" if end == "expired" else "updated", books.user_id, plan="pro", minutes=9, status=end
        ),
    ]
    for number, bodies in enumerate(permutations(told)):
        with db.transaction() as session:
            session.execute(text("TRUNCATE webhook_events, subscriptions, subscription_payments"))
            session.get_one(User, books.user_id).tier = "free"
        deliver(*(body.replace(b'"77"', f'"{100 + number}"'.encode()) for body in bodies))
        assert (books.tier, books.balances) == ("free", (0, 0, 0))


def test_a_payment_waits_for_its_subscription(books: Books) -> None:
    assert deliver(payment("success", minutes=1)) == {"handled": 0, "waiting": 1}
    assert deliver(subscription("created", books.user_id)) == {"handled": 2, "waiting": 0}


def test_what_is_known_is_told_apart_from_news(books: Books) -> None:
    told = [subscription("created", books.user_id, minutes=1), payment("failed", minutes=2)]
    deliver(*told, *(body + b" " for body in told), subscription("updated", None))
    assert outcomes() == ["done", "done", "done", "known already", "older than what is known"]


def test_events_that_mean_nothing_here_are_done_with(books: Books) -> None:
    subscribed = subscription("created", None).replace(b'"variant_id": 11', b'"variant_id": 999')
    told = deliver(event("license_key_created", {"type": "license-keys", "id": "1"}, None), subscribed)
    assert told == {"handled": 2, "waiting": 0}
    assert outcomes() == ["unknown event license_key_created", "not of this service: variant 999"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[]", ": Input should be an object"),
        (b"{", ": Invalid JSON"),
        (b'{"meta":{"event_name":"order_created"},"data":{"id":"1"}}', "data.attributes: Field required"),
    ],
)
def test_what_cannot_be_read_is_kept_and_tried_again_later(
    time: Clock, clean_db: None, body: bytes, problem: str
) -> None:
    assert deliver(body) == {"handled": 0, "waiting": 1}
    assert deliver() == {"handled": 0, "waiting": 0}
    with db.transaction() as session:
        row = session.scalars(select(WebhookEvent)).one()
    assert (row.problem or "").startswith(problem)
    assert row.try_at == START + timedelta(seconds=10)
    time.forward(seconds=10)
    assert inbox.handle_due() == {"handled": 0, "waiting": 1}
